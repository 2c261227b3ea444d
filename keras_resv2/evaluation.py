"""The error of a classifier on labelled images."""

import sys

import numpy as np

from keras_resv2.argument_checks import check_count
from keras_resv2.data.checks import check_finite, check_labels, check_pixels, to_array
from keras_resv2.data.images import channels_last_hint
from keras_resv2.models.pixels import takes_raw_pixels

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
    """Top-1 error, one view per image, nothing averaged.

    Args:
        model: as `find_mistakes` takes it.
        images: ``(n, height, width, 3)``, raw pixels from 0 to 255: an array, a tensor or a list of images.
        labels: ``(n,)`` or ``(n, 1)``, class numbers from 0.
        batch_size: images per forward pass.

    Returns:
        Percent of the images whose highest score is not the label's.

    Raises:
        ValueError: there are no images, or not as many labels; labels are no class numbers of the model; pixels are
            on another scale than the model's; the model does not give scores of two classes or more for each image;
            or scores are NaN or infinite.

    Example:

    >>> measure_error(from_pretrained("resnet20-cifar10"), images, labels)  # doctest: +SKIP
    """
    images, labels = check_images(model, images, labels)
    return 100.0 * float(find_mistakes(model, slices(images, labels, check_count("batch_size", batch_size))).mean())


def check_images(model, images, labels=None):
    """Images and labels for a model as arrays.

    Args:
        model: as `find_mistakes` takes it.
        images, labels: as `measure_error` takes them; labels may be None.

    Returns:
        ``(images, labels)``: arrays ``(n, height, width, channels)`` and int64 ``(n,)``; None for labels of None.

    Raises:
        ValueError: as `measure_error`, before anything is computed.

    Example:

    >>> check_images(None, [np.zeros((2, 2, 3))], [1])[1].tolist()
    [1]
    """
    images = to_array(images, "images")
    if not images.ndim or not len(images):
        raise ValueError("images: there are none.")
    shape = getattr(model, "input_shape", None)
    known = shape if isinstance(shape, tuple) else (None,) * images.ndim
    if len(known) != images.ndim or any(a not in (None, b) for a, b in zip(known[1:], images.shape[1:], strict=True)):
        hint = channels_last_hint(images.shape) or (
            ": keras_resv2.prepare_images makes them fit; images[None] makes a batch of one"
        )
        raise ValueError(f"images are {images.shape}, the model takes (n, {', '.join(map(str, known[1:]))}){hint}.")
    if hasattr(model, "layers") and takes_raw_pixels(model):
        check_pixels(images)
    return images, None if labels is None else check_labels(labels, len(images), _classes(model))


def _classes(model):
    """Number of classes of a Keras model of one output; None where it is not known before it is called."""
    shape = getattr(model, "output_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 and shape[1] != 1 else None


def find_mistakes(model, batches):
    """Which images a classifier gets wrong.

    Args:
        model: a `keras.Model` from pixels to class scores (probabilities or logits), or another object
            with `predict_on_batch`.
        batches: of ``(images, labels)``: ``(n, height, width, 3)`` and ``(n,)`` or ``(n, 1)``. A shorter one
            is filled up to the first one's size, so that one compiled program serves all.

    Returns:
        Boolean array, one for each image: whether its highest score is not the label's.

    Raises:
        ValueError: labels are no class numbers of the model, one for each image; the model does not give scores of two
            classes or more for each image; scores are NaN or infinite; or there are no batches.

    Example:

    >>> wrong = find_mistakes(model, slices(images, labels, 500))  # doctest: +SKIP
    """
    found = [
        highest_class(scores) != check_labels(labels, len(scores), scores.shape[1])
        for scores, labels in predictions(model, batches)
        if _check_scores(scores)
    ]
    if not found:
        raise ValueError("batches: there are none.")
    return np.concatenate(found)


def _check_scores(scores):
    """True of scores ``(n, classes)`` of two classes or more; else raises ValueError."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        one = " A single score has a threshold, which is yours to choose." if scores.shape[1:] == (1,) else ""
        raise ValueError(
            f"the model gives {scores.shape} for {len(scores)} images: errors are counted of class scores, "
            f"(n, classes), of two classes or more.{one}"
        )
    return True


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


def predictions(model, batches):
    """Yields ``(outputs, labels)`` of batches.

    Args:
        model, batches: as `find_mistakes` takes them.

    Raises:
        ValueError: a batch has not as many labels as images, or the model has several outputs.
    """
    size = None
    for images, labels in batches:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels.")
        size = size or whole_batch(len(labels))
        outputs = model.predict_on_batch(filled_up(images, size))
        if isinstance(outputs, (list, tuple, dict)):
            raise ValueError(f"the model has {len(outputs)} outputs: keras.Model(model.input, one_of_them) has one.")
        yield np.asarray(outputs)[: len(labels)], labels


def whole_batch(count):
    """The smallest number of images, at least `count`, that divides among the devices that share a batch."""
    devices = batch_devices()
    return -(-count // devices) * devices


def batch_devices():
    """How many devices share a batch: those of `keras.distribution`'s data axis, or of a `tf.distribute` strategy.

    Example:

    >>> batch_devices()
    1
    """
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None:
        return 1
    distribution = getattr(keras, "distribution", None)
    distribution = distribution.distribution() if hasattr(distribution, "distribution") else None
    if distribution is not None:
        mesh = distribution.device_mesh
        return dict(zip(mesh.axis_names, mesh.shape, strict=True)).get(distribution.batch_dim_name, 1)
    if tensorflow is not None and keras.backend.backend() == "tensorflow" and tensorflow.distribute.has_strategy():
        return tensorflow.distribute.get_strategy().num_replicas_in_sync
    return 1


def filled_up(images, size):
    """The images, and black ones after them where they are fewer than `size`."""
    empty = np.zeros((max(0, size - len(images)), *images.shape[1:]), images.dtype)
    return np.concatenate([images, empty])


def slices(images, labels, batch_size):
    """Yields ``(images, labels)`` in their order, `batch_size` at a time; the last may be shorter."""
    for first in range(0, len(labels), batch_size):
        yield images[first : first + batch_size], labels[first : first + batch_size]
