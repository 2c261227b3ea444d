"""Counts multiply-adds, which the papers' tables call FLOPs."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from keras_resv2.models.graph import as_functional, calls, check_functional
from keras_resv2.models.scan import RolledUnits


def count_multiply_adds(model: keras.Model) -> int:
    """Counts the multiply-adds of convolutions and dense layers in a forward pass of one image.

    The papers' tables call these FLOPs (He et al. 2015, Table 1). A layer or model that is called several times is
    counted each time, on feature maps of that call's size.

    Args:
        model: a functional `keras.Model` with a fixed input size.

    Returns:
        The number of multiply-adds.

    Raises:
        ValueError: if the model is not functional; the input size of the model, or of a model nested in it, is not
            fixed; or a layer with kernels is neither a two-dimensional convolution nor a dense layer, so that its work
            is not known.

    Example:

    >>> import keras_resv2
    >>> round(count_multiply_adds(keras_resv2.ResNet20()) / 1e6)
    41
    """
    functional = check_functional(model)
    if any(None in x.shape[1:] for x in functional.inputs):
        raise ValueError(f"model {model.name!r} accepts any size: build it with input_shape=(height, width, 3).")
    return sum(count * _multiply_adds(node) for node, count in weighted_calls(functional))


def weighted_calls(model: keras.Model) -> Iterator[tuple[Any, int]]:
    """Lists the calls of convolutions and dense layers, with how often each is computed.

    Args:
        model: a functional `keras.Model`.

    Returns:
        Iterator of pairs ``(node, count)``, inputs first: `node.operation` is the layer, `node.outputs` its output; the
        count is above 1 in a loop of units.

    Raises:
        ValueError: if another layer has kernels.
    """
    for node in calls(model):
        layer = node.operation
        if not isinstance(layer, keras.Layer):
            continue  # an operation without weights
        if isinstance(layer, RolledUnits):
            yield from ((inner, layer.count * count) for inner, count in weighted_calls(layer.unit))
        elif (inside := as_functional(layer)) is not None:
            yield from weighted_calls(inside)
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            yield node, 1
        elif any(weight.name.endswith("kernel") for weight in layer.weights):
            raise ValueError(
                f"the multiply-adds of layer {layer.name!r} ({type(layer).__name__}) are not known: only those of "
                "Conv2D, DepthwiseConv2D and Dense are counted."
            )


def _multiply_adds(node):
    layer, output = node.operation, node.outputs[0]
    weights = math.prod(layer.kernel.shape)
    last = isinstance(layer, keras.layers.Dense) or layer.data_format == "channels_last"
    positions = output.shape[1:-1] if last else output.shape[2:]  # a dense layer of feature maps acts on each
    if None in positions:
        raise ValueError(f"layer {layer.name!r} accepts any size: build its model with input_shape=(height, width, 3).")
    return math.prod(positions) * weights
