"""Deep functional graphs, and copies of them with other layers."""

import contextlib
import sys

import keras

# Keras follows a graph by recursion, up to eight calls per unit of a network; there are up to 600 units.
RECURSION_LIMIT = 20_000


@contextlib.contextmanager
def deep_graph():
    """Lets `keras.Model` follow graphs that are deeper than Python's recursion limit, as of 1,202 layers.

    Example:

    >>> with deep_graph():
    ...     model = keras.Model(inputs := keras.Input((1,)), inputs)
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def copy_model(model, replace):
    """A copy of a model, layer by layer, with the same weights.

    Args:
        model: a functional `keras.Model`.
        replace: function from a layer to the one that takes its place, with weights of the same shapes.

    Returns:
        `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: the model is not a functional one.

    Example:

    >>> import keras_resv2
    >>> network = keras_resv2.ResNet(8)
    >>> copy_model(network, lambda layer: type(layer).from_config(layer.get_config())).count_params()
    75770
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(f"{model!r} is no functional keras.Model, as the builders of keras_resv2 make them.")
    with deep_graph():
        copy = keras.models.clone_model(model, clone_function=replace)
    copy.set_weights(model.get_weights())
    return copy
