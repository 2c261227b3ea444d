"""Detects which pixels a model expects, and checks that images have them."""

from typing import Any

import keras
import numpy as np

from keras_resv2.argument_checks import warn_caller
from keras_resv2.data.checks import check_finite_pixels, check_normalized_pixels, check_pixels
from keras_resv2.models.graph import inner_layers

SMALL_FACTOR, LARGE_ZERO = 0.1, 2.0  # of the affine map before the first weights, for pixels from 0 to 255
SMALL_RANGE = 0.2  # of 0 to 255 after the map; normalized pixels have a range from 1 to 255
STEM = "stem_conv"
KEEPS_PIXELS = (
    keras.layers.InputLayer,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.CenterCrop,
    keras.layers.Resizing,
    keras.layers.RandomCrop,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
)

RAW, TWICE, NORMALIZED, UNKNOWN = "raw", "normalized twice", "normalized", "unknown"


def pixel_scale(model: Any) -> str:
    """Returns which pixels a model expects, as its first layers show.

    Args:
        model: a `keras.Model`, or any other object.

    Returns:
        "raw": it normalizes pixels from 0 to 255, see `takes_raw_pixels`. "normalized twice": it does, so strongly that
        its first weights see nearly constant images, such as with a ``Rescaling(1 / 255)`` before a network that
        already normalizes. "normalized": a network of this package without preprocessing. "unknown": anything else.

    Example:

    >>> import keras_resv2
    >>> pixel_scale(keras_resv2.ResNet(8)), pixel_scale(keras_resv2.ResNet(8, include_preprocessing=False))
    ('raw', 'normalized')
    """
    if not isinstance(model, keras.Model):
        return UNKNOWN
    factor, offset, untouched, first = _before_first_weights(model)
    if 0 < factor <= SMALL_FACTOR or (factor > 0 and offset / factor > LARGE_ZERO):
        return TWICE if 255 * factor < SMALL_RANGE else RAW
    return NORMALIZED if untouched and first == STEM else UNKNOWN


def check_pixel_scale(scale: str, images: np.ndarray, argument: str = "images") -> None:
    """Checks that images have the pixels that a model expects.

    Args:
        scale: what `pixel_scale` returns for the model.
        images: array of any shape.
        argument: name of the argument in messages.

    Raises:
        ValueError: if pixels are NaN or infinite, or not on the scale; where they may be, it only warns.
    """
    if scale == TWICE:
        warn_caller(
            f"{argument}: the model normalizes pixels twice, so that its first layer sees nearly constant images: "
            "remove the Rescaling or Normalization layer before the network, which normalizes pixels from 0 to 255 "
            "itself, or build it with include_preprocessing=False.",
        )
    if scale in (RAW, TWICE):
        check_pixels(images, argument)
    elif scale == NORMALIZED:
        check_normalized_pixels(images, argument)
    else:
        check_finite_pixels(images, argument)


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
    return pixel_scale(model) in (RAW, TWICE)


def _before_first_weights(model):
    """What happens to pixels before the first layer with weights.

    Returns:
        ``(factor, offset, untouched, first)``: of the affine map, the largest absolute values; whether there are only
        layers that keep pixels as they are; and the name of the layer with weights, or None.
    """
    factor, offset, untouched, first = np.ones(1), np.zeros(1), True, None
    for layer in _leaves(model):
        if isinstance(layer, keras.layers.Rescaling):
            scale, shift = np.ravel(layer.scale), np.ravel(layer.offset)
        elif isinstance(layer, keras.layers.Normalization):
            mean, variance = (np.ravel(keras.ops.convert_to_numpy(x)) for x in (layer.mean, layer.variance))
            scale = 1 / np.sqrt(np.maximum(variance, 1e-12))
            scale, shift = (1 / scale, mean) if layer.invert else (scale, -mean * scale)
        elif layer.weights:
            first = layer.name
            break
        else:
            untouched = untouched and isinstance(layer, KEEPS_PIXELS)
            continue
        untouched = False
        factor, offset = factor * scale, offset * scale + shift
    return float(np.abs(factor).max()), float(np.abs(offset).max()), untouched, first


def _leaves(layer):
    """Lists the innermost layers of a layer, in order."""
    for inside in inner_layers(layer):
        if inner_layers(inside):
            yield from _leaves(inside)
        else:
            yield inside
