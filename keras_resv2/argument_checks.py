"""Checks of arguments, one-line error messages, and warnings."""

import difflib
import numbers
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_MESSAGE = 2000
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
MANY = 10  # more choices than this are not listed


def check_choice(argument: str, value: T, choices: Iterable[T]) -> T:
    """Returns `value` if it is one of `choices`.

    Args:
        argument: name of the argument, for the message.
        value: the value to check.
        choices: the valid values.

    Returns:
        `value`.

    Raises:
        ValueError: if it is not; the message lists the choices, or the closest ones if there are many.

    Example:

    >>> check_choice("pooling", "avg", ("avg", "max"))
    'avg'
    """
    choices = list(choices)
    if value in choices:
        return value
    if len(choices) > MANY:
        raise ValueError(
            f"{argument}={value!r} is not one of the {len(choices)} known names; did you mean "
            f"{nearest(value, choices)}?"
        )
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, choices))}.")


def check_count(argument: str, value: Any, least: int = 1) -> int:
    """Returns `value`, a Python or NumPy integer, as an int if it is at least `least`.

    Raises:
        ValueError: if it is not.

    Example:

    >>> check_count("classes", 5)
    5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument}={value!r} must be a whole number, at least {least}.")
    return int(value)


def whole_numbers(argument: str, values: Any) -> list[int]:
    """Returns whole numbers, or one, as a list.

    Raises:
        ValueError: if there are others.

    Example:

    >>> whole_numbers("counts", (1, 2)), whole_numbers("counts", 3)
    ([1, 2], [3])
    """
    listed: list[Any] = [values] if isinstance(values, numbers.Number) else list(values)
    if not all(isinstance(value, numbers.Integral) and not isinstance(value, bool) for value in listed):
        raise ValueError(f"{argument}={values!r} must be whole numbers.")
    return [int(value) for value in listed]


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or the name of its class if the message is empty.

    Example:

    >>> first_line(OSError("no such file\\nlooked in a, b")), first_line(EOFError())
    ('no such file', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error: BaseException) -> str:
    """Returns an exception's message as one line without control characters, which could control the terminal.

    Warnings are exceptions, too.

    Example:

    >>> one_line(ValueError("two\\nlines, \\x1b[31mred"))
    'two lines, \\\\x1b[31mred'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."


def nearest(value: object, choices: Iterable[object]) -> str:
    """Lists the three choices most similar to `value`, those that start with it first; else the first three."""
    names = [str(choice) for choice in choices]
    alike = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5)
    begin = [choice for choice in names if choice.startswith(f"{value}-")]
    return ", ".join(list(dict.fromkeys([*begin, *alike]))[:3] or names[:3])


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Lists the first three names, followed by an ellipsis if there are more."""
    return separator.join(names[:3]) + (f"{separator}..." if len(names) > 3 else "")


def warn_caller(message: str) -> None:
    """Issues a UserWarning that names the line outside this package whose call caused it.

    Python shows a warning once per line, so that a line of the package would hide the warnings of all later calls.

    Args:
        message: text of the warning.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
