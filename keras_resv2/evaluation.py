"""The error of a classifier on labelled pictures."""

import numpy as np

# Rounding differs between backends and processors: images that may fall the other way.
ROUNDING_SHARE, ROUNDING_AT_LEAST = 0.0005, 2
# Copies of CIFAR-10 are not all equal to the byte: some test images of ours are decodes of JPEG files.
OTHER_COPY_SHARE = 0.0025


def error_agrees(wrong, expected, images, same_copy=True):
    """Whether a measured error confirms another.

    Args:
        wrong: images classified wrongly.
        expected: how many were to be expected.
        images: number of images.
        same_copy: whether both were measured on the same bytes.

    Returns:
        Whether they differ by no more than rounding, and what differs between copies, explain.

    Example:

    >>> error_agrees(848, 850, 10_000), error_agrees(848, 860, 10_000)
    (True, False)
    """
    allowed = max(ROUNDING_AT_LEAST, ROUNDING_SHARE * images)
    if not same_copy:
        allowed += OTHER_COPY_SHARE * images
    return abs(wrong - expected) <= allowed


def measure_error(model, images, labels, batch_size=500):
    """Top-1 error, one view per picture, nothing averaged.

    Args:
        model: as `find_mistakes` takes it.
        images: ``(n, height, width, 3)``, raw pixels from 0 to 255.
        labels: ``(n,)`` or ``(n, 1)``, class numbers.
        batch_size: images per forward pass.

    Returns:
        Percent of the pictures whose highest score is not the label's.

    Raises:
        ValueError: the labels are no class numbers, one for each picture, or scores are NaN or infinite.

    Example:

    >>> measure_error(from_pretrained("resnet20-cifar10"), images, labels)  # doctest: +SKIP
    """
    return 100.0 * float(find_mistakes(model, slices(images, labels, batch_size)).mean())


def find_mistakes(model, batches):
    """Which pictures a classifier gets wrong.

    Args:
        model: a `keras.Model` from pixels to class scores (probabilities or logits), or another object
            with `predict_on_batch`.
        batches: of ``(images, labels)``: ``(n, height, width, 3)`` and ``(n,)`` or ``(n, 1)``. A shorter one
            is filled up to the first one's size, so that one compiled program serves all.

    Returns:
        Boolean array, one for each picture: whether its highest score is not the label's.

    Raises:
        ValueError: labels are no class numbers, one for each picture, or scores are NaN or infinite.

    Example:

    >>> wrong = find_mistakes(model, slices(images, labels, 500))  # doctest: +SKIP
    """
    return np.concatenate(
        [highest_class(scores) != _numbers(labels, scores) for scores, labels in predictions(model, batches)]
    )


def highest_class(scores):
    """The class of the highest score of each image.

    Args:
        scores: ``(n, classes)``, probabilities or logits.

    Returns:
        ``(n,)`` class numbers.

    Raises:
        ValueError: scores are NaN or infinite; `argmax` would give some class for them.

    Example:

    >>> highest_class([[0.2, 0.7, 0.1]])
    array([1])
    """
    return check_finite(scores).argmax(axis=-1)


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


def _numbers(labels, scores):
    """Labels ``(n,)``; comparing ``(n, 1)`` would compare each picture with every label."""
    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != scores.shape[:1]:
        raise ValueError(
            f"labels of {len(scores)} pictures are {labels.shape}: they must be class numbers (n,); "
            "labels.argmax(axis=1) makes them of one-hot rows."
        )
    return labels


def predictions(model, batches):
    """Yields ``(outputs, labels)`` of batches.

    Args:
        model, batches: as `find_mistakes` takes them.
    """
    size = None
    for images, labels in batches:
        size = size or len(labels)
        yield np.asarray(model.predict_on_batch(filled_up(images, size)))[: len(labels)], labels


def filled_up(images, size):
    """The images, and black ones after them where they are fewer than `size`."""
    empty = np.zeros((max(0, size - len(images)), *images.shape[1:]), images.dtype)
    return np.concatenate([images, empty])


def slices(images, labels, batch_size):
    """Yields ``(images, labels)`` in their order, `batch_size` at a time; the last may be shorter."""
    for first in range(0, len(labels), batch_size):
        yield images[first : first + batch_size], labels[first : first + batch_size]
