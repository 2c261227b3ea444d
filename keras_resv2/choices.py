"""One sentence for an argument that is none of its choices."""

import difflib

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
    near = ", ".join(map(repr, difflib.get_close_matches(str(value), map(str, choices), n=3)))
    if len(choices) > MANY:
        near = near or ", ".join(map(repr, choices[:3])) + ", ..."
        raise ValueError(f"{argument}={value!r} is none of the {len(choices)} there are; nearest: {near}.")
    hint = f" (nearest: {near})" if near else ""
    raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, choices))}{hint}.")
