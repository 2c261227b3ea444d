"""Examples in docstrings, as this package writes them, for mkdocstrings: "Example:" and what follows, unindented."""

import re

import griffe


class Examples(griffe.Extension):
    """Makes a section "Examples:" of ``Example:``, whose lines are below it without indentation."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = indent_examples(obj.docstring.value)


def indent_examples(text):
    """Returns a docstring whose examples are a section of Google's style.

    Example:

    >>> print(indent_examples("Adds.\\n\\nExample:\\n\\n>>> 1 + 1\\n2"))
    Adds.
    <BLANKLINE>
    Examples:
        >>> 1 + 1
        2
    """
    before, found, after = text.partition("Example:\n")
    if not found or (before and not before.endswith("\n")):
        return text
    examples = [f"    {line}" if line else "" for line in after.strip("\n").splitlines()]
    examples = [re.sub(r"  # doctest: \+\w+$", "", line) for line in examples]
    return f"{before}Examples:\n" + "\n".join(examples)
