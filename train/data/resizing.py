"""Resizes the images of a batch inside the compiled step, for training that starts on smaller images.

Arithmetic is in integers, so the same seed and step give the same images on every backend.
"""

import functools

import numpy as np
from keras import ops

from train.data.source import SourceWrapper

WEIGHT = 256  # sum of the integer weights of a pixel; products with uint8 and their sums are exact in all precisions


class ResizedBatches(SourceWrapper):
    """The batches of another source, with smaller images.

    A teacher in the source gets the original images.

    Args:
        source: `train.data.source.BatchSource` with `image_size`.
        side: shorter side of the resized images, in pixels, at most that of the original ones.

    Example:

    >>> source = ResizedBatches(DeviceData(images, labels, recipe, seed=0), side=24)  # doctest: +SKIP
    """

    def __init__(self, source, side):
        super().__init__(source)
        shorter = min(source.image_size)
        self.image_size = tuple(round(length * side / shorter) for length in source.image_size)

    def augment(self, device_data, *batch):
        """Returns uint8 images ``(batch, height, width, 3)`` and targets of a step, in the compiled step."""
        images, targets = self._source.augment(device_data, *batch)
        return resize(images, self.image_size), targets


def at_size(source, side):
    """Returns a source with images of another size.

    Args:
        source: `train.data.source.BatchSource`.
        side: shorter side of the images, as in a recipe's `image_size`; None for their own size.

    Returns:
        The source itself if its images have this size; those of streams always have.
    """
    if side is None or source.image_size is None:
        return source
    side = side_in_pixels(side, source.image_size)
    return source if side == min(source.image_size) else ResizedBatches(source, side)


def side_in_pixels(side, image_size):
    """Returns a value of a recipe's `image_size` in pixels.

    Args:
        side: a number of pixels from 2, or a fraction up to 1.
        image_size: (height, width) of the images; only needed for fractions.

    Example:

    >>> side_in_pixels(0.75, (32, 48)), side_in_pixels(20, (32, 48))
    (24, 20)
    """
    return side if side > 1 else max(1, round(side * min(image_size)))


def resize(images, size):
    """Resizes images with Pillow's antialiased bilinear filter, up to rounding.

    Args:
        images: uint8 ``(batch, height, width, channels)``.
        size: (height, width) of the result.

    Returns:
        uint8 ``(batch, *size, channels)``.

    Example:

    >>> tuple(resize(np.zeros((2, 32, 32, 3), "uint8"), (24, 24)).shape)
    (2, 24, 24, 3)
    """
    height, width, channels = images.shape[1:]
    if (height, width) == tuple(size):
        return images
    down, across = _matrices((height, width, channels), tuple(size))
    x = ops.reshape(ops.cast(images, "float32"), (-1, width * channels))
    x = _rounded(ops.matmul(x, ops.convert_to_tensor(across)))
    x = ops.reshape(x, (-1, height, size[1] * channels))
    x = _rounded(ops.matmul(ops.convert_to_tensor(down), x))
    return ops.cast(ops.reshape(x, (-1, *size, channels)), "uint8")


def filter_weights(length, new_length):
    """Computes the weights of a triangle filter as wide as two pixels of the result: antialiased linear interpolation.

    Args:
        length, new_length: numbers of pixels before and after, ``new_length <= length``.

    Returns:
        float32 ``(new_length, length)``: integers, whose sum is 256 in each row.

    Example:

    >>> filter_weights(4, 2)[0].tolist()
    [109.0, 110.0, 37.0, 0.0]
    """
    scale = length / new_length
    centers = scale * (np.arange(new_length) + 0.5)
    distances = np.abs(np.arange(length) + 0.5 - centers[:, None]) / scale
    weights = np.clip(1 - distances, 0, None)
    weights *= WEIGHT / weights.sum(axis=1, keepdims=True)
    rounded = np.round(weights)
    rows = np.arange(new_length)
    rounded[rows, weights.argmax(axis=1)] += WEIGHT - rounded.sum(axis=1)
    return rounded.astype("float32")


@functools.cache
def _matrices(shape, size):
    """Returns the matrices that resize columns, and rows of interleaved channels."""
    height, width, channels = shape
    across = np.kron(filter_weights(width, size[1]).T, np.eye(channels, dtype="float32"))
    return filter_weights(height, size[0]), across


def _rounded(sums):
    """Divides by the sum of the weights, and rounds."""
    return ops.floor((sums + WEIGHT // 2) / WEIGHT)
