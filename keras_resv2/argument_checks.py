"""One sentence for an argument that is none of its choices."""

import difflib
import numbers

LONGEST_MESSAGE = 2000
MANY = 10  # more choices than this are not listed


def check_choice(argument, value, choices):
    """Returns `value` if it is one of `choices`.

    Args:
        argument: its name, for the message.
        value: what was given.
        choices: what there is.

    Returns:
        `value`.

    Raises:
        ValueError: it is none of them; the message lists them, or the nearest of many.

    Example:

    >>> check_choice("pooling", "avg", ("avg", "max"))
    'avg'
    """
    choices = list(choices)
    if value in choices:
        return value
    if len(choices) > MANY:
        raise ValueError(
            f"{argument}={value!r} is none of the {len(choices)} there are; nearest: {nearest(value, choices)}."
        )
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, choices))}.")


def check_count(argument, value):
    """Returns `value`, of Python or of NumPy, as an int if it is a whole number, at least 1.

    Raises:
        ValueError: it is none.

    Example:

    >>> check_count("classes", 5)
    5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{argument}={value!r} must be a whole number, at least 1.")
    return int(value)


def first_line(error):
    """What an exception of another library says, in a line: the first of its own, or its kind where it says nothing.

    Example:

    >>> first_line(OSError("no such file\\nlooked in a, b")), first_line(EOFError())
    ('no such file', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error):
    """What an exception says, as one line without control characters, which could command the terminal.

    Example:

    >>> one_line(ValueError("two\\nlines, \\x1b[31mred"))
    'two lines, \\\\x1b[31mred'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."


def nearest(value, choices):
    """Text of the three choices that look most like `value`, those that begin with it first; or of the first three."""
    choices = [str(choice) for choice in choices]
    alike = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.5)
    begin = [choice for choice in choices if choice.startswith(f"{value}-")]
    return ", ".join(list(dict.fromkeys([*begin, *alike]))[:3] or choices[:3])


def some(names, separator=", "):
    """Text of the first three names, and a sign that there are more."""
    return separator.join(names[:3]) + (f"{separator}..." if len(names) > 3 else "")
