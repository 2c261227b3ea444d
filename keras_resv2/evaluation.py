"""The error of a classifier on labelled pictures."""

import numpy as np

# Rounding differs between backends and processors: images that may fall the other way.
ROUNDING_SHARE, ROUNDING_AT_LEAST = 0.0005, 2
# Copies of CIFAR-10 are not all equal to the byte: 23 of our 10,000 test images are decodes of JPEG files.
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
        model: a `keras.Model` from pixels to class scores (probabilities or logits).
        images: ``(n, height, width, 3)``, raw pixels from 0 to 255.
        labels: ``(n,)``, class numbers.
        batch_size: images per forward pass.

    Returns:
        Percent of the pictures whose highest score is not the label's.

    Example:

    >>> measure_error(from_pretrained("resnet20-cifar10"), images, labels)  # doctest: +SKIP
    """
    scores = model.predict(images, batch_size=batch_size, verbose=0)
    return 100.0 * float(np.mean(np.argmax(scores, axis=-1) != np.asarray(labels)))
