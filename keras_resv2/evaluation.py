"""The error of a classifier on labelled pictures."""

import numpy as np


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
