"""Measures the error of a classifier on labeled images."""

import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_resv2.argument_checks import check_count
from keras_resv2.data.checks import check_finite, check_labels, to_array
from keras_resv2.data.crops import center_crop, read_crop
from keras_resv2.data.images import channels_hint
from keras_resv2.data.streaming import batches
from keras_resv2.models.pixels import check_pixel_scale, pixel_scale

# Rounding differs between backends and processors: how many images may be classified differently.
ROUNDING_SHARE, ROUNDING_AT_LEAST = 0.0005, 2
# Copies of CIFAR-10 are not all identical: in some, a part of the test images was decoded from JPEG files.
OTHER_COPY_SHARE = 0.0025
# Images per forward pass: at most so many, with at most so many pixels, so that the feature maps fit into memory.
MOST_IMAGES, MOST_PIXELS = 500, 256 * 224 * 224


def error_agrees(wrong: float, expected: float, images: int, same_copy: bool = True) -> bool:
    """Returns whether a measured error agrees with another.

    Args:
        wrong: number of misclassified images.
        expected: expected number.
        images: number of images.
        same_copy: whether both were measured on identical copies of the data.

    Returns:
        Whether rounding, and differences between copies of the data, explain the difference.

    Example:

    >>> error_agrees(848, 850, 10_000), error_agrees(848, 860, 10_000)
    (True, False)
    """
    allowed = max(ROUNDING_AT_LEAST, ROUNDING_SHARE * images)
    if not same_copy:
        allowed += OTHER_COPY_SHARE * images
    return abs(wrong - expected) <= allowed


def default_batch_size(image_shape: Sequence[int], most: int = MOST_IMAGES) -> int:
    """Returns the number of images of a forward pass: fewer for larger images.

    Args:
        image_shape: ``(height, width, channels)``; the order does not matter.
        most: upper limit.

    Example:

    >>> default_batch_size((32, 32, 3)), default_batch_size((224, 224, 3)), default_batch_size((448, 448, 3))
    (500, 256, 64)
    """
    if len(image_shape) < 2:  # features
        return most
    height, width = sorted(image_shape)[-2:]
    return int(np.clip(MOST_PIXELS // (height * width), 1, most))


def resolve_batch_size(batch_size: int | None, image_shape: Sequence[int]) -> int:
    """Returns a batch size that was given, or the default for None; raises ValueError if it is not a count."""
    return default_batch_size(image_shape) if batch_size is None else check_count("batch_size", batch_size)


def measure_error(model: Any, images: Any, labels: Any, batch_size: int | None = None) -> float:
    """Measures the single-crop top-1 error, without test-time augmentation.

    Args:
        model: a `keras.Model` from pixels to class scores (probabilities or logits), or any object with
            `predict_on_batch`.
        images: ``(n, height, width, 3)``, raw pixels from 0 to 255: an array, a tensor or a list of images.
        labels: ``(n,)`` or ``(n, 1)``, class indices from 0.
        batch_size: images per forward pass; None for 500, or fewer for images of more than 160 x 160 pixels.

    Returns:
        Percentage of the images whose highest score is not that of the label.

    Raises:
        ValueError: if there are no images, or the number of labels differs; labels are not class indices of the model;
            pixels have the wrong scale; the model does not return scores of at least two classes for each image; or
            scores are NaN or infinite.

    Example:

    >>> measure_error(from_pretrained("resnet20-cifar10@4"), images, labels)  # doctest: +SKIP
    6.82
    """
    images, labels = check_images(model, images, labels)
    batch_size = resolve_batch_size(batch_size, images.shape[1:])
    return 100.0 * float(find_mistakes(model, slices(images, labels, batch_size)).mean())


def check_images(model: Any, images: Any, labels: Any = None) -> tuple[np.ndarray, Any]:
    """Converts images and labels to arrays and checks that they fit a model.

    Args:
        model: see `find_mistakes`.
        images, labels: see `measure_error`; labels may be None.

    Returns:
        ``(images, labels)``: arrays ``(n, height, width, channels)`` and int64 ``(n,)``; labels of None stay None.

    Raises:
        ValueError: see `measure_error`; raised before anything is computed.

    Example:

    >>> check_images(None, [np.zeros((2, 2, 3))], [1])[1].tolist()
    [1]
    """
    images = to_array(images, "images")
    if not images.ndim or not len(images):
        raise ValueError("images is empty.")
    shape = getattr(model, "input_shape", None)
    known = shape if isinstance(shape, tuple) else (None,) * images.ndim
    if len(known) != images.ndim or any(a not in (None, b) for a, b in zip(known[1:], images.shape[1:], strict=True)):
        hint = channels_hint(images.shape, known[1:]) or (
            ": keras_resv2.prepare_images resizes them; images[None] makes a batch of one"
        )
        raise ValueError(
            f"images have the shape {images.shape}, the model expects (n, {', '.join(map(str, known[1:]))}){hint}."
        )
    check_pixel_scale(pixel_scale(model), images)
    return images, None if labels is None else check_labels(labels, len(images), _classes(model))


def _classes(model):
    """Returns the number of classes of a Keras model with one output; None if unknown before it is called."""
    shape = getattr(model, "output_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 and shape[1] != 1 else None


def measure_streamed_error(
    model: Any, source: Any, shorter_side: int, size: int, interpolation: str = "bilinear", batch_size: int = 50
) -> float:
    """Measures the top-1 error on images streamed from disk, with one center crop per image.

    Args:
        model: see `find_mistakes`.
        source: a source, see `keras_resv2.data.sources.open_source`.
        shorter_side: shorter side of the resized images, in pixels.
        size: side of the crop in pixels, at most `shorter_side`.
        interpolation: "bilinear" or "bicubic".
        batch_size: images per forward pass.

    Returns:
        Percentage of the images whose highest score is not that of the label.

    Raises:
        ValueError: if the crop is larger than the resized image, an image is damaged, or as in `find_mistakes`.

    Example:

    >>> measure_streamed_error(model, source, shorter_side=256, size=224)  # doctest: +SKIP
    23.87
    """
    crop = functools.partial(center_crop, shorter_side=shorter_side, size=size, interpolation=interpolation)
    load = functools.partial(read_crop, source, crop=crop)
    return 100.0 * float(find_mistakes(model, batches(load, range(len(source)), batch_size, size)).mean())


def find_mistakes(model: Any, batches: Iterable[tuple[np.ndarray, Any]]) -> np.ndarray:
    """Finds the images that a classifier gets wrong.

    Args:
        model: a `keras.Model` from pixels to class scores (probabilities or logits), or any object with
            `predict_on_batch`.
        batches: iterable of ``(images, labels)``: ``(n, height, width, 3)`` and ``(n,)`` or ``(n, 1)``. A shorter batch
            is padded to the size of the first one, so that one compiled program serves all.

    Returns:
        Boolean array, one value for each image: whether its highest score is not that of the label.

    Raises:
        ValueError: if labels are not class indices of the model, one for each image; the model does not return scores
            of at least two classes for each image; scores are NaN or infinite; or there are no batches.

    Example:

    >>> wrong = find_mistakes(model, slices(images, labels, 500))  # doctest: +SKIP
    """
    found = [
        highest_class(scores) != check_labels(labels, len(scores), scores.shape[1])
        for scores, labels in predictions(model, batches)
        if _check_scores(scores)
    ]
    if not found:
        raise ValueError("batches is empty.")
    return np.concatenate(found)


def _check_scores(scores):
    """Returns True for scores ``(n, classes)`` of at least two classes; raises ValueError otherwise."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        one = " A single score needs a threshold, which you have to choose." if scores.shape[1:] == (1,) else ""
        raise ValueError(
            f"the model returns {scores.shape} for {len(scores)} images: measuring the error needs class scores, "
            f"(n, classes), of at least two classes.{one}"
        )
    return True


def highest_class(scores: Any) -> np.ndarray:
    """Returns the class with the highest score for each image.

    Args:
        scores: ``(n, classes)``, probabilities or logits.

    Returns:
        ``(n,)`` class indices.

    Raises:
        ValueError: if scores are NaN or infinite; `argmax` would silently return some class.

    Example:

    >>> highest_class([[0.2, 0.7, 0.1]])
    array([1])
    """
    return check_finite(scores).argmax(axis=-1)


def predictions(
    model: Any, batches: Iterable[tuple[np.ndarray, Any]], size: int | None = None
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields ``(outputs, labels)`` for each batch.

    Args:
        model, batches: see `find_mistakes`.
        size: number of images that batches are padded to; None for that of the first batch.

    Raises:
        ValueError: if a batch does not have as many labels as images, or the model has several outputs.
    """
    size = size and whole_batch(size)
    for images, labels in batches:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels.")
        size = size or whole_batch(len(labels))
        outputs = model.predict_on_batch(filled_up(images, size))
        if isinstance(outputs, (list, tuple, dict)):
            raise ValueError(
                f"the model has {len(outputs)} outputs: select one with keras.Model(model.input, model.outputs[i])."
            )
        yield np.asarray(outputs)[: len(labels)], labels


def whole_batch(count: int) -> int:
    """Returns the smallest multiple of the number of devices sharing a batch that is at least `count`."""
    devices = batch_devices()
    return -(-count // devices) * devices


def batch_devices() -> int:
    """Returns how many devices share a batch: those of `keras.distribution`'s data axis or a `tf.distribute` strategy.

    Example:

    >>> batch_devices()
    1
    """
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None:
        return 1
    distribution = getattr(keras, "distribution", None)
    current = getattr(distribution, "distribution", None)
    distribution = None if current is None else current()
    if distribution is not None:
        mesh = distribution.device_mesh
        batches = getattr(distribution, "batch_dim_name", None) or distribution._batch_dim_name  # before Keras 3.8
        return dict(zip(mesh.axis_names, mesh.shape, strict=True)).get(batches, 1)
    if tensorflow is not None and keras.backend.backend() == "tensorflow" and tensorflow.distribute.has_strategy():
        return tensorflow.distribute.get_strategy().num_replicas_in_sync
    return 1


def filled_up(images: np.ndarray, size: int) -> np.ndarray:
    """Pads the images with black ones up to `size`."""
    empty = np.zeros((max(0, size - len(images)), *images.shape[1:]), images.dtype)
    return np.concatenate([images, empty])


def slices(images: np.ndarray, labels: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields ``(images, labels)`` in order, `batch_size` at a time; the last batch may be shorter."""
    for first in range(0, len(labels), batch_size):
        yield images[first : first + batch_size], labels[first : first + batch_size]
