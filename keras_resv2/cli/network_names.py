"""Checks names of networks given on the command line: pretrained weights or architectures."""

from keras_resv2.architectures import ARCHITECTURES, is_architecture
from keras_resv2.argument_checks import nearest
from keras_resv2.pretrained import is_pretrained, list_pretrained


def check_network(name):
    """Raises ValueError unless a name is that of pretrained weights or of an architecture."""
    if not is_pretrained(name) and not is_architecture(name):
        offer = nearest(name, [*ARCHITECTURES, *list_pretrained()])
        raise ValueError(f"there is no network {name!r}; did you mean {offer}?")
