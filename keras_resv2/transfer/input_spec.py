"""What a model accepts: checks of images, labels and sample weights, and the label formats of the losses."""

import dataclasses
from typing import Any

import numpy as np

from keras_resv2.data.checks import check_finite_pixels, check_labels, to_array
from keras_resv2.data.images import channels_hint
from keras_resv2.models.pixels import RAW, check_pixel_scale

SUM_TOLERANCE = 1e-3  # of a row of class probabilities: float16 rounds


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What a model accepts.

    Attributes:
        image_shape: of its input, ``(height, width, 3)``; None for a side of any length.
        classes: number of classes.
        pixels: which pixels it expects, see `keras_resv2.models.pixels.pixel_scale`.
    """

    image_shape: tuple
    classes: int
    pixels: str = RAW

    def validate(
        self, argument: str, images: Any, labels: Any, weights: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Checks images, labels and sample weights and converts them to arrays.

        Args:
            argument: name of the argument, for error messages.
            images: ``(n, height, width, 3)``, an array, a tensor or a list.
            labels: class indices ``(n,)``, or class probabilities ``(n, classes)`` (one-hot or soft).
            weights: ``(n,)``, factor of each image's loss; or None.

        Returns:
            ``(images, labels, weights)``: arrays; labels int32 ``(n,)`` or float32 ``(n, classes)``, weights float32
            ``(n,)`` or None.

        Raises:
            ValueError: if they do not fit the model or each other.
        """
        images, labels = to_array(images, argument), to_array(labels, argument)
        fits = images.ndim == 4 and all(
            wanted in (None, side) for wanted, side in zip(self.image_shape, images.shape[1:], strict=True)
        )
        if not fits:
            size = tuple(32 if side is None else side for side in self.image_shape[:2])
            hint = channels_hint(images.shape, self.image_shape) or (
                ": it needs one channel, such as images.mean(-1, keepdims=True)"
                if self.image_shape[2] == 1 and images.shape[1:3] == size
                else f": images = keras_resv2.prepare_images(images, {size}) converts grayscale and other sizes; "
                ".batch(32) makes batches of the single images of a tf.data.Dataset"
            )
            accepted = ", ".join(map(str, self.image_shape))
            raise ValueError(f"{argument}: images are {images.shape}, the model takes (n, {accepted}){hint}.")
        check_finite_pixels(images, argument)
        if not len(images):
            raise ValueError(f"{argument}: there are no images.")
        if labels.ndim == 2 and labels.shape[1] > 1:
            labels = _check_probabilities(argument, labels, len(images), self.classes)
        else:
            labels = check_labels(labels, len(images), self.classes, argument).astype("int32")
        return images, labels, _check_weights(argument, weights, len(images))

    def check_pixels(self, argument: str, images: np.ndarray) -> None:
        """Raises ValueError, or warns, if the images do not have the pixels that the model expects."""
        check_pixel_scale(self.pixels, images, argument)


def _check_probabilities(argument, labels, count, classes):
    """Rows of class probabilities ``(n, classes)`` as float32, each with the sum 1."""
    if labels.shape[1] != classes:
        raise ValueError(
            f"{argument}: labels are {labels.shape}, a column for each class, but the model has {classes} classes."
        )
    if len(labels) != count:
        raise ValueError(f"{argument}: {count} images but {len(labels)} labels.")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: labels are {labels.dtype}: rows of labels must be numbers.")
    labels = labels.astype("float32")
    sums = labels.sum(axis=1)
    bad = ~(np.abs(sums - 1) <= SUM_TOLERANCE) | ~(labels >= 0).all(axis=1)  # NaN too
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{argument}: row {row} of the labels is {np.round(labels[row], 3).tolist()[:10]}: each row must be "
            "one-hot or class probabilities that sum to 1. Several labels per image are not supported."
        )
    return labels


def _check_weights(argument, weights, count):
    """Sample weights ``(n,)`` as float32; None for None."""
    if weights is None:
        return None
    weights = to_array(weights, argument)
    weights = weights[:, 0] if weights.ndim == 2 and weights.shape[1] == 1 else weights
    if weights.shape != (count,) or weights.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: sample weights are {weights.dtype} {weights.shape}: they must be ({count},).")
    weights = weights.astype("float32")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"{argument}: sample weights must be finite and at least 0, not {weights.min():.3g}.")
    return weights


def class_probabilities(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels as class probabilities, float32 ``(n, classes)``: one-hot rows of class indices, others as they are.

    Example:

    >>> class_probabilities(np.array([1, 0]), 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return labels if labels.ndim == 2 else np.eye(classes, dtype="float32")[labels]


def loss_weights(labels: np.ndarray, weights: np.ndarray | None, class_weight: np.ndarray | None) -> np.ndarray | None:
    """Factor of each image's loss: its sample weight times the weight of its class; None if all are 1.

    Args:
        labels: ``(n,)`` or ``(n, classes)``.
        weights: sample weights ``(n,)``, or None.
        class_weight: ``(classes,)``, or None.

    Example:

    >>> loss_weights(np.array([0, 1]), np.array([1.0, 3.0]), np.array([2.0, 0.5])).tolist()
    [2.0, 1.5]
    """
    if class_weight is None:
        return weights
    by_class = labels @ class_weight if labels.ndim == 2 else class_weight[labels]
    return by_class.astype("float32") if weights is None else (weights * by_class).astype("float32")
