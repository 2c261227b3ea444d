"""Detects whether a model normalizes raw pixels from 0 to 255 itself."""

from typing import Any

import keras
import numpy as np

from keras_resv2.models.graph import inner_layers

SMALL_FACTOR, LARGE_ZERO = 0.1, 2.0  # of the affine map before the first weights, for pixels from 0 to 255


def takes_raw_pixels(model: Any) -> bool:
    """Returns whether a model normalizes pixels from 0 to 255 itself.

    It does if there are `Rescaling` or `Normalization` layers before its first weights that divide by 10 or more, or
    that map a value above 2 to zero.

    Args:
        model: a `keras.Model`, or any other object.

    Returns:
        True or False; False if unknown.

    Example:

    >>> import keras_resv2
    >>> takes_raw_pixels(keras_resv2.ResNet(8)), takes_raw_pixels(keras_resv2.ResNet(8, include_preprocessing=False))
    (True, False)
    """
    if not isinstance(model, keras.Model):
        return False
    factor, offset = np.ones(1), np.zeros(1)
    for layer in _leaves(model):
        if isinstance(layer, keras.layers.Rescaling):
            scale, shift = np.ravel(layer.scale), np.ravel(layer.offset)
        elif isinstance(layer, keras.layers.Normalization):
            mean, variance = (np.ravel(keras.ops.convert_to_numpy(x)) for x in (layer.mean, layer.variance))
            scale = 1 / np.sqrt(np.maximum(variance, 1e-12))
            scale, shift = (1 / scale, mean) if layer.invert else (scale, -mean * scale)
        elif layer.weights:
            break
        else:
            continue
        factor, offset = factor * scale, offset * scale + shift
    factor, offset = np.abs(factor).max(), np.abs(offset).max()
    return bool(0 < factor <= SMALL_FACTOR or (factor > 0 and offset / factor > LARGE_ZERO))


def _leaves(layer):
    """Lists the innermost layers of a layer, in order."""
    for inside in inner_layers(layer):
        if inner_layers(inside):
            yield from _leaves(inside)
        else:
            yield inside
