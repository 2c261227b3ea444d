"""Checks of images and labels, shared by evaluation and training."""

from typing import Any

import numpy as np

from keras_resv2.argument_checks import warn_caller

SCALED = 1.0  # pixels up to this were divided by 255
STANDARDIZED = 16.0  # upper bound of standardized pixels
OVERSHOOT = 64.0  # interpolation of sharp edges exceeds 0 to 255 by at most this much


def to_array(values: Any, argument: str) -> np.ndarray:
    """Converts arrays, tensors of any library, and lists of either to one NumPy array.

    Args:
        values: the values to convert.
        argument: name of the argument, for the message.

    Returns:
        `numpy.ndarray`.

    Raises:
        ValueError: if they are batches of another kind, or the elements of a list have different shapes.

    Example:

    >>> to_array([np.zeros((2, 2)), np.ones((2, 2))], "images").shape
    (2, 2, 2)
    """
    if isinstance(values, (list, tuple)):
        values = [_on_host(value) for value in values]
    try:
        array = np.asarray(_on_host(values))
    except (ValueError, TypeError) as error:
        if not isinstance(values, list):
            raise ValueError(f"{argument}: {type(values).__name__} cannot be converted to an array: {error}") from None
        array = np.empty(0, object)
    if array.dtype == object and not isinstance(values, (list, np.ndarray)):
        raise ValueError(
            f"{argument}: {type(values).__name__} is not an array: pass an array or a list; "
            "np.concatenate([images for images, labels in batches]) joins batches."
        )
    if array.dtype == object:
        raise ValueError(
            f"{argument}: the elements have different shapes or types; resize images of different sizes "
            "with keras_resv2.prepare_images(image[None], size)."
        )
    return array


def _on_host(values):
    """Detaches a PyTorch tensor and moves it to the CPU; returns anything else unchanged."""
    return values.detach().cpu() if hasattr(values, "detach") else values


def class_numbers(labels: Any, argument: str = "labels") -> np.ndarray:
    """Converts labels to class indices.

    Args:
        labels: ``(n,)`` or ``(n, 1)``, whole numbers of any dtype.
        argument: name of the argument in messages.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: if they are one-hot rows, names, NaN or not whole numbers.

    Example:

    >>> class_numbers([[2.0], [0.0]]).tolist()
    [2, 0]
    """
    labels = to_array(labels, argument)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        rows = "; labels.argmax(axis=1) converts one-hot rows" if labels.ndim == 2 else ""
        raise ValueError(f"{argument}: labels have the shape {labels.shape}: they must be class indices (n,){rows}.")
    whole = labels.dtype.kind in "iu" or (
        labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == labels.round()).all()
    )
    if len(labels) and not whole:
        bad = labels[~np.isfinite(labels)] if labels.dtype.kind == "f" else labels
        raise ValueError(
            f"{argument}: labels have the dtype {labels.dtype}, such as {(bad if len(bad) else labels)[0]!r}: they "
            "must be class "
            "indices from 0; class_names, y = np.unique(y, return_inverse=True) converts names."
        )
    return labels.astype("int64")


def check_labels(
    labels: Any, count: int, classes: int | None, argument: str = "labels", owner: str = "the model"
) -> np.ndarray:
    """Checks labels and converts them to class indices, one for each image.

    Args:
        labels: see `class_numbers`.
        count: number of images.
        classes: number of classes; None if unknown.
        argument: name of the argument in messages.
        owner: what has this number of classes, for the message.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: as in `class_numbers`, or if there are more or fewer labels than images, or labels out of range.
    """
    labels = class_numbers(labels, argument)
    if len(labels) != count:
        raise ValueError(f"{argument}: {count} images but {len(labels)} labels.")
    if classes is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"{argument}: labels range from {labels.min()} to {labels.max()}, but {owner} has {classes} classes: they "
            "must be "
            f"from 0 to {classes - 1} (from_pretrained(name, classes=...) changes the number of classes)."
        )
    return labels


def check_pixels(images: np.ndarray, argument: str = "images") -> None:
    """Raises ValueError if pixels are not on the scale of 0 to 255, which a model with preprocessing expects.

    For uint8 pixels up to 1, and all pixels up to 16, it only warns, because the images may be dark.

    Args:
        images: array of any shape.
        argument: name of the argument in messages.

    Example:

    >>> check_pixels(np.array([0.0, 0.5, 1.0]))
    Traceback (most recent call last):
    ...
    ValueError: images: pixels range from 0 to 1, but the model expects 0 to 255: do not scale them.
    """
    if not images.size:
        return
    if images.dtype == bool or images.dtype.kind not in "iuf":
        raise ValueError(f"{argument}: pixels have the dtype {images.dtype}: they must be numbers from 0 to 255.")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{argument}: some pixels are NaN or infinite.")
    text = f"{argument}: pixels range from {low:.3g} to {high:.3g}, but the model expects 0 to 255: "
    if low >= 0 and 0 < high <= SCALED:
        if images.dtype != np.uint8:
            raise ValueError(f"{text}do not scale them.")
        warn_caller(f"{text}do not scale them.")
    elif low >= 0 and SCALED < high <= STANDARDIZED:
        warn_caller(f"{text}multiply them, unless all images are dark.")
    elif low < -OVERSHOOT or (low < 0 and high <= STANDARDIZED):
        raise ValueError(f"{text}do not subtract the mean, the model does.")
    elif high > 255 + OVERSHOOT:
        raise ValueError(f"{text}convert 16-bit pixels with (images / 257).round().astype('uint8').")


def check_normalized_pixels(images: np.ndarray, argument: str = "images") -> None:
    """Warns if pixels look like 0 to 255, which a network without preprocessing does not expect.

    Args:
        images: array of any shape.
        argument: name of the argument in messages.

    Raises:
        ValueError: if pixels are NaN or infinite.
    """
    check_finite_pixels(images, argument)
    if images.size and images.min() >= 0 and (images.dtype.kind in "iu" or images.max() > STANDARDIZED):
        warn_caller(
            f"{argument}: pixels range from {float(images.min()):.3g} to {float(images.max()):.3g}, but the model has "
            "no preprocessing and expects normalized pixels: subtract the mean and divide by the standard deviation, "
            "or build it with include_preprocessing=True.",
        )


def check_finite_pixels(images: np.ndarray, argument: str = "images") -> None:
    """Raises ValueError if pixels are NaN or infinite."""
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError(f"{argument}: some pixels are NaN or infinite.")


class NotFiniteError(ValueError):
    """Class scores are NaN or infinite."""


def check_finite(scores: Any) -> np.ndarray:
    """Converts scores ``(n, classes)`` to an array; raises `NotFiniteError` if any is NaN or infinite."""
    scores = np.asarray(scores)
    bad = len(scores) - np.isfinite(scores).all(axis=-1).sum()
    if bad:
        raise NotFiniteError(
            f"class scores of {bad} of {len(scores)} images are NaN or infinite: the weights are damaged or diverged, "
            "or this backend is inaccurate in this precision (try dtype float32)."
        )
    return scores
