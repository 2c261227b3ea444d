"""Metrics beyond the test error: error per class, calibration, likelihood, and error on compressed images."""

import io
from typing import Any

import numpy as np
from PIL import Image

from keras_resv2.data.checks import check_finite, check_labels, class_numbers
from keras_resv2.evaluation import check_images, highest_class, measure_error, predictions, resolve_batch_size, slices

BINS = 15
JPEG_QUALITY = 75


def class_errors(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[float | None]:
    """Computes the test error of each class.

    Args:
        predicted: ``(n,)`` class indices.
        labels: ``(n,)`` class indices.
        classes: number of classes.

    Returns:
        Percentage of misclassified images of each class; None for a class without images.

    Raises:
        ValueError: if they are not class indices, or differ in number.

    Example:

    >>> class_errors(np.array([0, 1, 1]), np.array([0, 0, 1]), 3)
    [50.0, 0.0, None]
    """
    predicted = class_numbers(predicted, "predicted")
    labels = check_labels(labels, len(predicted), classes, owner="the network")
    wrong = predicted != labels
    counts = np.bincount(labels, minlength=classes)
    errors = np.bincount(labels, weights=wrong, minlength=classes)
    return [100 * float(error) / int(count) if count else None for error, count in zip(errors, counts, strict=True)]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Computes the expected calibration error: Guo et al. 2017 (arXiv 1706.04599), eq. 3.

    Images are assigned to bins of equal width by the probability of their predicted class. The error is the difference
    between mean probability and accuracy of each bin, averaged with the bins' numbers of images as weights.

    Args:
        probabilities: ``(n, classes)``.
        labels: ``(n,)`` class indices.
        bins: number of bins.

    Returns:
        From 0 (calibrated) to 1.

    Raises:
        ValueError: if they are not probabilities, or the labels do not match them.

    Example:

    >>> float(expected_calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1])))
    0.25
    """
    probabilities, labels = _checked(probabilities, labels)
    if probabilities.min() < 0 or probabilities.max() > 1 + 1e-3:
        raise ValueError("calibration needs probabilities, from 0 to 1: compute them with softmax(logits).")
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are open below, closed above
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Computes the mean cross-entropy of the labels, in nats.

    Args:
        logits: ``(n, classes)``, scores before the softmax.
        labels: ``(n,)`` class indices.

    Example:

    >>> round(negative_log_likelihood(np.zeros((2, 10)), np.array([3, 4])), 4)
    2.3026
    """
    logits, labels = _checked(logits, labels)
    highest = logits.max(1, keepdims=True)
    log_sum = highest[:, 0] + np.log(np.exp(logits - highest).sum(1))
    return float(np.mean(log_sum - logits[np.arange(len(labels)), labels]))


def _checked(scores, labels):
    """Returns scores ``(n, classes)`` in double precision and class indices ``(n,)``; raises ValueError if invalid."""
    scores = check_finite(np.asarray(scores, "float64"))
    if scores.ndim != 2 or not len(scores):
        raise ValueError(f"scores have the shape {scores.shape}, it must be (n, classes) with at least one image.")
    return scores, check_labels(labels, len(scores), scores.shape[1], owner="the network")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Converts logits ``(n, classes)`` to probabilities, in double precision."""
    exponents = np.exp(np.asarray(logits, "float64") - np.max(logits, axis=1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def compress_images(images: np.ndarray, quality: int = JPEG_QUALITY) -> np.ndarray:
    """Compresses images as JPEG with Pillow and decodes them again.

    Args:
        images: uint8 ``(n, height, width, channels)``, one channel or three.
        quality: JPEG quality, 1 to 95.

    Returns:
        uint8, of the same shape.

    Raises:
        ValueError: if the images have another number of channels.

    Example:

    >>> compress_images(np.full((1, 8, 8, 3), 128, "uint8")).shape
    (1, 8, 8, 3)
    """
    _check_jpeg(images)

    def compress(image):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    return np.stack([compress(image) for image in images])


def _check_jpeg(images):
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} {images.shape}: JPEG compression needs uint8 (n, height, width, channels), one "
            "channel or three."
        )


def interval(wrong: float, images: float) -> tuple[float, float]:
    """Computes the 95 % confidence interval of an error rate (Wilson 1927), in percent.

    Args:
        wrong: number of misclassified images.
        images: number of images; for weighted images the effective sample size.

    Raises:
        ValueError: if there are no images, or more mistakes than images.

    Example:

    >>> tuple(round(bound, 2) for bound in interval(820, 10_000))
    (7.68, 8.75)
    """
    if not 0 <= wrong <= images or not images:
        raise ValueError(
            f"wrong={wrong!r} of images={images!r}: images must be at least 1, and wrong from 0 to images."
        )
    z, share = 1.959964, wrong / images
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return 100 * float(middle - half), 100 * float(middle + half)


def class_scores(model: Any, images: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    """Returns the outputs of a classifier for images, computed in batches.

    Args:
        model: `keras.Model` from pixels to class scores, or any object with `predict_on_batch`.
        images: ``(n, height, width, 3)``, pixels from 0 to 255.
        batch_size: images per forward pass; None for 500, or fewer for images of more than 160 x 160 pixels.

    Returns:
        ``(n, classes)``.

    Example:

    >>> class_scores(from_pretrained("resnet20-cifar10"), images).shape  # doctest: +SKIP
    (10000, 10)
    """
    images, _ = check_images(model, images)
    batches = slices(images, range(len(images)), resolve_batch_size(batch_size, images.shape[1:]))
    return np.concatenate([scores for scores, _ in predictions(model, batches)])


def full_report(
    model: Any, images: np.ndarray, labels: np.ndarray, batch_size: int | None = None, logits: np.ndarray | None = None
) -> dict:
    """Computes all metrics of a classifier that returns logits.

    Args:
        model: `keras.Model` from pixels to logits, or any object with `predict_on_batch`.
        images: uint8 ``(n, height, width, 3)``.
        labels: ``(n,)`` class indices.
        batch_size: see `class_scores`.
        logits: ``(n, classes)``, outputs of the model for the images if already known; None to run the model.

    Returns:
        Dictionary: class_errors (percent), calibration_error (0 to 1, 15 bins), negative_log_likelihood (nats),
        jpeg_error (percent, quality 75).

    Raises:
        ValueError: see `keras_resv2.evaluation.measure_error`.

    Example:

    >>> full_report(from_pretrained(NAME, classifier_activation=None), images, labels)  # doctest: +SKIP
    """
    images, labels = check_images(model, images, labels)
    _check_jpeg(images)
    scores = class_scores(model, images, batch_size) if logits is None else logits
    errors = class_errors(highest_class(scores), labels, scores.shape[1])
    return {
        "class_errors": [error if error is None else round(error, 2) for error in errors],
        "calibration_error": round(expected_calibration_error(softmax(scores), labels), 4),
        "negative_log_likelihood": round(negative_log_likelihood(scores, labels), 4),
        "jpeg_error": round(measure_error(model, compress_images(images), labels, batch_size), 2),
    }
