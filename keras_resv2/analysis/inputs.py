"""Images and labels for an analysis, and the loss that they give."""

import keras
import numpy as np


def check_images(parts, images, labels):
    """Images and labels as arrays.

    Args:
        parts: `keras_resv2.analysis.dissection.Dissection`.
        images: ``(n, height, width, 3)``.
        labels: ``(n,)``, class numbers.

    Returns:
        ``(images, labels)``.

    Raises:
        ValueError: they do not go together, or not with the network.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(
            f"images {images.shape} and labels {labels.shape} do not go together: images (n, height, width, 3) and "
            "n class numbers are needed."
        )
    shape = parts.stem.program.input_shape
    if any(a not in (None, b) for a, b in zip(shape, images.shape[1:], strict=True)):
        raise ValueError(
            f"images {images.shape} do not fit {parts.name}, which takes (n, {', '.join(map(str, shape))})."
        )
    output = parts.head.program.output_shape
    if len(output) != 1:
        raise ValueError(
            f"{parts.name} gives {output}, not class scores: analysis needs a network with its classifier."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= output[0]:
        raise ValueError(f"labels must be whole numbers from 0 to {output[0] - 1}, the classes of {parts.name}.")
    return images, labels


def loss_gradient(logits, labels):
    """Gradient of the mean cross-entropy by the logits.

    Example:

    >>> keras.ops.convert_to_numpy(loss_gradient(keras.ops.zeros((1, 2)), np.array([0]))).tolist()
    [[-0.5, 0.5]]
    """
    probabilities = keras.ops.softmax(keras.ops.cast(logits, "float32"))
    truth = keras.ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return keras.ops.cast((probabilities - truth) / len(labels), logits.dtype)
