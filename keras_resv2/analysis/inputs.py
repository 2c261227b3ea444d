"""Checks images and labels for an analysis, and computes the gradient of the loss."""

from typing import Any

import keras
import numpy as np

from keras_resv2.analysis.dissection import Dissection
from keras_resv2.data.checks import check_labels, to_array
from keras_resv2.models.pixels import check_pixel_scale


def check_images(parts: Dissection, images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Converts images and labels to arrays and checks them.

    Args:
        parts: `keras_resv2.analysis.dissection.Dissection`.
        images: ``(n, height, width, 3)``.
        labels: class indices, as `keras_resv2.evaluation.check_images` takes them.

    Returns:
        ``(images, labels)``: arrays, ``(n, height, width, 3)`` and int64 ``(n,)``.

    Raises:
        ValueError: if they do not match each other or the network, or the pixels are not on its scale.
    """
    images = to_array(images, "images")
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images have the shape {images.shape}: images (n, height, width, 3) are needed.")
    shape = parts.stem.program.input_shape
    if any(a not in (None, b) for a, b in zip(shape, images.shape[1:], strict=True)):
        raise ValueError(
            f"images {images.shape} do not fit {parts.name}, which expects (n, {', '.join(map(str, shape))})."
        )
    output = parts.head.program.output_shape
    if len(output) != 1 or not parts.classifies:
        kind = f"an array {output}" if len(output) != 1 else f"{output[0]} pooled features"
        raise ValueError(
            f"{parts.name} outputs {kind}, not class scores: analysis needs a network with its classifier."
        )
    check_pixel_scale(parts.pixels, images)
    return images, check_labels(labels, len(images), output[0], owner=parts.name)


def loss_gradient(logits: Any, labels: np.ndarray) -> Any:
    """Computes the gradient of the mean cross-entropy with respect to the logits.

    Example:

    >>> keras.ops.convert_to_numpy(loss_gradient(keras.ops.zeros((1, 2)), np.array([0]))).tolist()
    [[-0.5, 0.5]]
    """
    probabilities = keras.ops.softmax(keras.ops.cast(logits, "float32"))
    truth = keras.ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return keras.ops.cast((probabilities - truth) / len(labels), logits.dtype)
