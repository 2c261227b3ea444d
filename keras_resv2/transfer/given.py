"""What `fine_tune` takes as images, labels and weights: arrays, batches, folders."""

import collections.abc
import dataclasses
import os
import warnings

import keras
import numpy as np

from keras_resv2.data import ImageFolder, read_folder, split_images
from keras_resv2.data.checks import check_labels, check_pixels, to_array
from keras_resv2.data.images import channels_last_hint
from keras_resv2.evaluation import batch_devices

AT_ONCE = 256
SUM_OF_ROW = 1e-3  # by which the sum of a label's shares may differ from 1: float16 rounds


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a model takes.

    Attributes:
        image_shape: of its input, ``(height, width, 3)``; None for sides that may vary.
        classes: how many it tells apart.
        raw_pixels: whether it normalises pixels of 0 to 255 itself.
    """

    image_shape: tuple
    classes: int
    raw_pixels: bool = True

    def example(self, argument, images, labels, weights=None):
        """Checked images, labels and weights.

        Args:
            argument: what to call them in messages.
            images: ``(n, height, width, 3)``, array, tensor or list.
            labels: class numbers ``(n,)``, or rows ``(n, classes)``: one-hot, or each class's share.
            weights: ``(n,)``, factor of the loss of each image; or None.

        Returns:
            ``(images, labels, weights)``: arrays; labels int32 ``(n,)`` or float32 ``(n, classes)``, weights float32.

        Raises:
            ValueError: they do not fit the model or each other.
        """
        images, labels = to_array(images, argument), to_array(labels, argument)
        fits = images.ndim == 4 and all(
            wanted in (None, have) for wanted, have in zip(self.image_shape, images.shape[1:], strict=True)
        )
        if not fits:
            size = tuple(32 if side is None else side for side in self.image_shape[:2])
            hint = channels_last_hint(images.shape) or (
                f": images = keras_resv2.prepare_images(images, {size}) makes grey images and other sizes fit; single "
                "images of a tf.data.Dataset become batches by .batch(32)"
            )
            taken = ", ".join(map(str, self.image_shape))
            raise ValueError(f"{argument}: images are {images.shape}, the model takes (n, {taken}){hint}.")
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise ValueError(f"{argument}: some pixels are NaN or infinite.")
        if not len(images):
            raise ValueError(f"{argument}: there are no images.")
        if labels.ndim == 2 and labels.shape[1] > 1:
            labels = _label_rows(argument, labels, len(images), self.classes)
        else:
            labels = check_labels(labels, len(images), self.classes, argument).astype("int32")
        return images, labels, _sample_weights(argument, weights, len(images))

    def check_pixels(self, argument, images):
        """Raises ValueError where the model takes raw pixels and these are on another scale."""
        if self.raw_pixels:
            check_pixels(images, argument)


def _label_rows(argument, labels, count, classes):
    """Rows ``(n, classes)`` as float32: shares of the classes that sum to 1."""
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
    bad = ~(np.abs(sums - 1) <= SUM_OF_ROW) | ~(labels >= 0).all(axis=1)  # NaN too
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{argument}: row {row} of the labels is {np.round(labels[row], 3).tolist()[:10]}: each must be one-hot, "
            "or shares of the classes from 0 to 1 that sum to 1. Several labels an image are not trained here."
        )
    return labels


def _sample_weights(argument, weights, count):
    """Factors of the loss ``(n,)`` as float32; None for None."""
    if weights is None:
        return None
    weights = to_array(weights, argument)
    weights = weights[:, 0] if weights.ndim == 2 and weights.shape[1] == 1 else weights
    if weights.shape != (count,) or weights.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: sample weights are {weights.dtype} {weights.shape}: they must be ({count},).")
    weights = weights.astype("float32")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"{argument}: sample weights must be finite numbers from 0 on, not {weights.min():.3g}.")
    return weights


def label_rows(labels, classes):
    """Labels as shares of the classes, float32 ``(n, classes)``.

    Example:

    >>> label_rows(np.array([1, 0]), 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return labels if labels.ndim == 2 else np.eye(classes, dtype="float32")[labels]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images with labels, in memory or in batches of the caller's.

    Attributes:
        argument: what to call them in messages.
        expected: `Expected`.
        images, labels: arrays ``(n, height, width, 3)``, and ``(n,)`` or ``(n, classes)``; or, of the caller's
            batches, those batches and None.
        weights: of the images in memory, ``(n,)``, or None.
        class_names: of a folder; or None.
    """

    argument: str
    expected: Expected
    images: object
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    class_names: tuple | None = None

    @property
    def in_memory(self):
        return self.labels is not None

    @property
    def numbers(self):
        """Class numbers of the images in memory; of shares the largest."""
        return self.labels.argmax(axis=1) if self.labels.ndim == 2 else self.labels

    def part(self, argument, positions):
        """Some of these images."""
        return dataclasses.replace(
            self,
            argument=argument,
            images=self.images[positions],
            labels=self.labels[positions],
            weights=None if self.weights is None else self.weights[positions],
        )

    def batches(self):
        """Yields ``(images, labels, weights)``, once through all, in a fixed number of images where they are in memory.

        Raises:
            ValueError, TypeError: a batch is none, or does not fit the model.
        """
        if self.in_memory:
            for first in range(0, len(self.labels), AT_ONCE):
                part = slice(first, first + AT_ONCE)
                yield self.images[part], self.labels[part], None if self.weights is None else self.weights[part]
            return
        indexed = isinstance(self.images, keras.utils.PyDataset)
        batches = (self.images[i] for i in range(self.images.num_batches)) if indexed else self.images
        for number, batch in enumerate(batches):
            images, labels, weights = self.example(batch)
            if number == 0:
                self.expected.check_pixels(self.argument, images)
            yield images, labels, weights

    def example(self, batch):
        """A batch of the caller's, checked."""
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(
                f"{self.argument}: each batch must be (images, labels) or (images, labels, weights), not a "
                f"{type(batch).__name__}{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}."
            )
        return self.expected.example(self.argument, *batch)

    def for_fit(self, count, class_weight=None, rows=False):
        """Batches of the caller's as `keras.Model.fit` takes them.

        Args:
            count: how many batches there are.
            class_weight: factors of the loss ``(classes,)``, or None.
            rows: whether labels are to be shares of the classes, and not class numbers.

        Returns:
            ``(data, steps)``: steps is None where the data end by themselves. What they hold are images, labels and,
            where there are any, weights.
        """
        adapt = _Adapted(class_weight, rows, self.expected.classes)
        if hasattr(self.images, "element_spec"):  # tf.data stays in TensorFlow
            return self.images.map(adapt.in_tensorflow), None
        if isinstance(self.images, keras.utils.PyDataset):
            return _AdaptedDataset(self.images, lambda batch: adapt(*self.example(batch))), None
        return self._over_and_over(adapt), count

    def _over_and_over(self, adapt):
        while True:
            for batch in self.images:
                yield adapt(*self.example(batch))


@dataclasses.dataclass(frozen=True)
class _Adapted:
    """Batches with all labels of one kind, and one weight for an image: its own times that of its class."""

    class_weight: np.ndarray | None
    rows: bool
    classes: int

    def __call__(self, images, labels, weights=None):
        weights = sample_weights(labels, weights, self.class_weight)
        labels = label_rows(labels, self.classes) if self.rows else labels
        return (images, labels) if weights is None else (images, labels, weights)

    def in_tensorflow(self, images, labels, weights=None):
        import tensorflow as tf

        if labels.shape.rank is None:
            raise ValueError("labels of a tf.data.Dataset need a known rank: tf.ensure_shape(labels, [None]) says it.")
        if labels.shape.rank == 2 and labels.shape[1] != 1:
            shares = tf.cast(labels, "float32")
        else:
            labels = tf.cast(tf.reshape(labels, [-1]), "int32")
            shares = tf.one_hot(labels, self.classes)
        weights = None if weights is None else tf.reshape(tf.cast(weights, "float32"), [-1])
        if self.class_weight is not None:
            own = tf.linalg.matvec(shares, tf.constant(self.class_weight, "float32"))
            weights = own if weights is None else weights * own
        labels = shares if self.rows else labels
        return (images, labels) if weights is None else (images, labels, weights)


def sample_weights(labels, weights, class_weight):
    """Factors of the loss of each image: its own times that of its class; None where all are 1.

    Args:
        labels: ``(n,)`` or ``(n, classes)``.
        weights: ``(n,)``, or None.
        class_weight: ``(classes,)``, or None.

    Example:

    >>> sample_weights(np.array([0, 1]), np.array([1.0, 3.0]), np.array([2.0, 0.5])).tolist()
    [2.0, 1.5]
    """
    if class_weight is None:
        return weights
    own = labels @ class_weight if labels.ndim == 2 else class_weight[labels]
    return own.astype("float32") if weights is None else (weights * own).astype("float32")


class _AdaptedDataset(keras.utils.PyDataset):
    """Another PyDataset, each batch through a function."""

    def __init__(self, batches, adapt):
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self._batches, self._adapt = batches, adapt

    @property
    def num_batches(self):
        return self._batches.num_batches

    def __getitem__(self, index):
        return self._adapt(self._batches[index])

    def on_epoch_begin(self):
        self._batches.on_epoch_begin()

    def on_epoch_end(self):
        self._batches.on_epoch_end()


def open_pictures(train, validation, expected, seed):
    """What `fine_tune` was given, as `Pictures`.

    Args:
        train, validation, seed: as `fine_tune` takes them.
        expected: `Expected`, of the model.

    Returns:
        ``(train, validation)``: `Pictures`; None for a validation that is None.

    Raises:
        ValueError, TypeError: they are none of what `fine_tune` takes.
    """
    train = _open("train", train, expected)
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        if not train.in_memory:
            raise ValueError(
                f"validation={validation}: batches cannot be split; give the validation batches, or None to go without."
            )
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation} must be a share between 0 and 1.")
        parts = split_images(train.numbers, (1 - validation, validation), seed, train.class_names)
        return train.part("train", parts[0]), train.part("validation", parts[1])
    return train, None if validation is None else _open("validation", validation, expected, train.class_names)


def _open(argument, given, expected, class_names=None):
    names = None
    if isinstance(given, (str, os.PathLike)):
        given = read_folder(given, expected.image_shape[:2], class_names=class_names)
        for problem in given.damaged:
            warnings.warn(f"{problem} It is left out.", stacklevel=4)
    if isinstance(given, ImageFolder):
        given, names = (given.images, given.labels), given.class_names
    if _holds_arrays(given):
        images, labels, weights = expected.example(argument, *given)
        expected.check_pixels(argument, images)
        return Pictures(argument, expected, images, labels, weights, names)
    indexed = isinstance(given, keras.utils.PyDataset)
    endless = indexed and given.num_batches is None
    if hasattr(given, "cardinality"):
        endless = int(given.cardinality()) == -1
    if endless:
        raise ValueError(f"{argument} never ends: give batches that go through the pictures once (no repeat()).")
    if isinstance(given, (np.ndarray, dict)) or not (indexed or hasattr(given, "__iter__")):
        raise TypeError(
            f"{argument} must be (images, labels), batches (tf.data.Dataset, keras.utils.PyDataset, DataLoader) or a "
            f"folder, not {type(given).__name__}."
        )
    if isinstance(given, collections.abc.Iterator) and not indexed:  # ImageDataGenerator.flow is both
        raise TypeError(
            f"{argument} is a {type(given).__name__}, which can be gone through only once, and every epoch needs it: "
            "give batches that begin again, as list(batches)."
        )
    return Pictures(argument, expected, given)


def _holds_arrays(given):
    """Whether this is (images, labels) or (images, labels, weights), and not a list of two or three batches."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        return False
    images, labels, *_ = given
    if not isinstance(images, (tuple, list)) or not images:
        return True
    # A list of images has images in it, and its labels are numbers or rows; a batch has arrays of many.
    alone = isinstance(labels, (tuple, list)) and (not labels or _rank(labels[0]) > 1)
    return _rank(images[0]) == 3 and not alone


def _rank(value):
    """Number of axes; 99 of what is no array."""
    if isinstance(value, (tuple, list)):
        return 1 + max(map(_rank, value), default=0)
    return len(value.shape) if hasattr(value, "shape") else 0 if np.isscalar(value) else 99


def check_batch(argument, count):
    """Raises ValueError unless a batch of so many images divides among the devices that share it."""
    devices = batch_devices()
    if count % devices:
        raise ValueError(
            f"{argument}: a batch of {count} images does not divide among {devices} devices: give batches of a "
            "multiple of them, the last one too (drop_remainder=True), or arrays, which are divided here."
        )
