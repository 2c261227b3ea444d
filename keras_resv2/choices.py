"""One sentence for an argument that is none of its choices."""

import difflib


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
    near = difflib.get_close_matches(str(value), map(str, choices), n=3)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, choices))}{hint}.")
