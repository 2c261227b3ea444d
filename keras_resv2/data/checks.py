"""What images and labels may be: one check for whatever measures or trains on them."""

import warnings

import numpy as np

SCALED = 1.0  # pixels up to this were divided by 255
STANDARDISED = 16.0  # the largest of pixels from which a mean was subtracted and that were divided by a deviation
OVERSHOOT = 64.0  # interpolation of sharp edges leaves 0 to 255 by so much at most


def to_array(values, argument):
    """Arrays, tensors of any library, and lists of either as one NumPy array.

    Args:
        values: what was given.
        argument: its name, for the message.

    Returns:
        `numpy.ndarray`.

    Raises:
        ValueError: the parts of a list have different shapes.

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
            raise ValueError(f"{argument}: {type(values).__name__} does not become an array: {error}") from None
        array = np.empty(0, object)
    if array.dtype == object:
        raise ValueError(
            f"{argument}: the parts have several shapes or types and do not make one array; images of several sizes "
            "become equal by keras_resv2.prepare_images(image[None], size)."
        )
    return array


def _on_host(values):
    """A PyTorch tensor without its gradient, on the processor; all else as it is."""
    return values.detach().cpu() if hasattr(values, "detach") else values


def class_numbers(labels, argument="labels"):
    """Labels as class numbers.

    Args:
        labels: ``(n,)`` or ``(n, 1)``, whole numbers of any dtype.
        argument: what to call them in messages.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: they are one-hot rows, names, NaN or other numbers that are not whole.

    Example:

    >>> class_numbers([[2.0], [0.0]]).tolist()
    [2, 0]
    """
    labels = to_array(labels, argument)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        rows = "; labels.argmax(axis=1) makes them of one-hot rows" if labels.ndim == 2 else ""
        raise ValueError(f"{argument}: labels are {labels.shape}: they must be class numbers (n,){rows}.")
    whole = labels.dtype.kind in "iu" or (
        labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == labels.round()).all()
    )
    if len(labels) and not whole:
        bad = labels[~np.isfinite(labels)] if labels.dtype.kind == "f" else labels
        raise ValueError(
            f"{argument}: labels are {labels.dtype}, such as {(bad if len(bad) else labels)[0]!r}: they must be class "
            "numbers from 0; class_names, y = np.unique(y, return_inverse=True) makes them of names."
        )
    return labels.astype("int64")


def check_labels(labels, count, classes, argument="labels", owner="the model"):
    """Labels as class numbers of a model, one for each image.

    Args:
        labels: as `class_numbers` takes them.
        count: number of images.
        classes: number of classes; None where it is not known.
        argument: what to call them in messages.
        owner: what has so many classes.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: as `class_numbers`; or there are more or fewer labels than images, or labels outside the classes.
    """
    labels = class_numbers(labels, argument)
    if len(labels) != count:
        raise ValueError(f"{argument}: {count} images but {len(labels)} labels.")
    if classes is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"{argument}: labels go from {labels.min()} to {labels.max()}, {owner} has {classes} classes: they must be "
            f"0 to {classes - 1} (from_pretrained(name, classes=...) gives a network others)."
        )
    return labels


def check_pixels(images, argument="images"):
    """Raises ValueError where pixels are on another scale than 0 to 255, which a model with preprocessing takes.

    Pixels of uint8 that go up to 1 are warned of: they may be black.

    Args:
        images: array of any shape.
        argument: what to call them in messages.

    Example:

    >>> check_pixels(np.array([0.0, 0.5, 1.0]))
    Traceback (most recent call last):
    ...
    ValueError: images: pixels go from 0 to 1, and the model takes 0 to 255: do not scale them.
    """
    if not images.size:
        return
    if images.dtype == bool or images.dtype.kind not in "iuf":
        raise ValueError(f"{argument}: pixels are {images.dtype}: they must be numbers from 0 to 255.")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{argument}: some pixels are NaN or infinite.")
    text = f"{argument}: pixels go from {low:.3g} to {high:.3g}, and the model takes 0 to 255: "
    if low >= 0 and 0 < high <= SCALED:
        if images.dtype != np.uint8:
            raise ValueError(f"{text}do not scale them.")
        warnings.warn(f"{text}do not scale them.", stacklevel=3)
    elif low < -OVERSHOOT or (low < 0 and high <= STANDARDISED):
        raise ValueError(f"{text}subtract no mean, the model does it.")
    elif high > 255 + OVERSHOOT:
        raise ValueError(f"{text}16-bit pixels become 8-bit ones by (images / 257).round().astype('uint8').")


def check_finite(scores):
    """Scores ``(n, classes)`` as an array; raises ValueError where any is NaN or infinite."""
    scores = np.asarray(scores)
    bad = len(scores) - np.isfinite(scores).all(axis=-1).sum()
    if bad:
        raise ValueError(
            f"class scores of {bad} of {len(scores)} images are NaN or infinite: the weights are damaged or diverged, "
            "or this backend computes wrongly in this precision (try dtype float32)."
        )
    return scores
