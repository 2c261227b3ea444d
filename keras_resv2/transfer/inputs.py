"""The images that `fine_tune` takes: arrays, batches or folders of images, in one form."""

import collections.abc
import dataclasses
import numbers
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_resv2.argument_checks import some, warn_caller
from keras_resv2.data import ImageFolder, read_folder, split_images
from keras_resv2.data.folders import scan_classes
from keras_resv2.evaluation import batch_devices, default_batch_size
from keras_resv2.storage.card_schema import check_class_names
from keras_resv2.transfer.input_spec import InputSpec, class_probabilities, loss_weights

BATCH = 256
MANY = 50_000  # batches from the caller: more than an epoch of ImageNet in batches of 32


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with labels: arrays in memory, or batches from the caller.

    Attributes:
        argument: name of the argument of `fine_tune`, for error messages.
        spec: `InputSpec` of the model.
        images: array ``(n, height, width, 3)``; or the caller's batches.
        labels: array ``(n,)`` or ``(n, classes)``; None for batches.
        weights: sample weights ``(n,)`` of images in memory, or None.
        class_names: of a folder; or None.
    """

    argument: str
    spec: InputSpec
    images: Any
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    class_names: tuple | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the images are an array."""
        return self.labels is not None

    @property
    def class_indices(self) -> np.ndarray:
        """Class index of each image in memory; the most probable class for rows of class probabilities."""
        assert self.labels is not None  # images in memory have labels
        return self.labels.argmax(axis=1) if self.labels.ndim == 2 else self.labels

    def subset(self, argument: str, positions: np.ndarray) -> "LabelledImages":
        """Some of the images in memory, with `argument` for error messages."""
        assert self.labels is not None  # images in memory have labels
        return dataclasses.replace(
            self,
            argument=argument,
            images=self.images[positions],
            labels=self.labels[positions],
            weights=None if self.weights is None else self.weights[positions],
        )

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Yields ``(images, labels, weights)``, one pass over all images, arrays in batches of at most `BATCH`.

        Raises:
            ValueError, TypeError: if a batch has another form, or does not fit the model.
        """
        if self.labels is not None:
            size = default_batch_size(self.images.shape[1:], BATCH)
            for first in range(0, len(self.labels), size):
                part = slice(first, first + size)
                yield self.images[part], self.labels[part], None if self.weights is None else self.weights[part]
            return
        indexed = isinstance(self.images, keras.utils.PyDataset)
        batches = (self.images[i] for i in range(self.images.num_batches)) if indexed else self.images
        for number, batch in enumerate(batches):
            images, labels, weights = self.validate(batch)
            if number == 0:
                self.spec.check_pixels(self.argument, images)
            if number == MANY:
                warn_caller(
                    f"{self.argument}: {MANY:,} batches have been read. If this dataset never ends, neither does "
                    "fine_tune: pass one pass over the images."
                )
            yield images, labels, weights

    def validate(self, batch: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Checks one of the caller's batches and converts it to arrays ``(images, labels, weights)``."""
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(
                f"{self.argument}: each batch must be (images, labels) or (images, labels, weights), not a "
                f"{type(batch).__name__}{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}."
            )
        return self.spec.validate(self.argument, *batch)

    def for_fit(self, count: int, class_weight: np.ndarray | None = None, soft: bool = False) -> tuple[Any, int | None]:
        """The caller's batches as `keras.Model.fit` takes them.

        Args:
            count: number of batches.
            class_weight: loss weights ``(classes,)``, or None.
            soft: whether to convert labels to class probabilities.

        Returns:
            ``(data, steps)``: batches of images, labels and, if there are any, weights of the loss; `steps` is None if
            the data end by themselves.
        """
        convert = _Converter(class_weight, soft, self.spec.classes, self.spec.image_shape)
        if hasattr(self.images, "element_spec"):  # a tf.data.Dataset stays in TensorFlow
            return self.images.map(convert.in_tensorflow), None
        if isinstance(self.images, keras.utils.PyDataset):
            return _ConvertedDataset(self, convert), None
        return self._repeat(convert), count

    def _repeat(self, convert):
        while True:
            for batch in self.images:
                yield convert(*self.validate(batch))


@dataclasses.dataclass(frozen=True)
class _Converter:
    """Gives all batches labels of one format, and each image one weight of the loss."""

    class_weight: np.ndarray | None
    soft: bool
    classes: int
    image_shape: tuple

    def __call__(self, images, labels, weights=None):
        weights = loss_weights(labels, weights, self.class_weight)
        labels = class_probabilities(labels, self.classes) if self.soft else labels
        return (images, labels) if weights is None else (images, labels, weights)

    def in_tensorflow(self, images, labels, weights=None):
        import tensorflow as tf

        images = tf.ensure_shape(images, (None, *self.image_shape))  # unknown after tf.numpy_function
        rows = tf.reshape(labels, [tf.shape(images)[0], -1])

        def one_hot():
            return tf.one_hot(tf.cast(rows[:, 0], "int32"), self.classes)

        if self.soft:
            probabilities = tf.cond(tf.shape(rows)[1] == 1, one_hot, lambda: tf.cast(rows, "float32"))
            labels = tf.ensure_shape(probabilities, (None, self.classes))
        else:
            labels = tf.ensure_shape(tf.cast(rows[:, 0], "int32"), (None,))
        weights = None if weights is None else tf.reshape(tf.cast(weights, "float32"), [-1])
        if self.class_weight is not None:
            factors = tf.constant(self.class_weight, "float32")
            by_class = tf.linalg.matvec(labels, factors) if self.soft else tf.gather(factors, labels)
            weights = by_class if weights is None else weights * by_class
        return (images, labels) if weights is None else (images, labels, weights)


class _ConvertedDataset(keras.utils.PyDataset):
    """A PyDataset of the checked and converted batches of another one. It can be pickled, for worker processes."""

    def __init__(self, images: LabelledImages, convert: Callable):
        batches = images.images
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self._images, self._batches, self._convert = images, batches, convert

    @property
    def num_batches(self):
        return self._batches.num_batches

    def __getitem__(self, index):
        return self._convert(*self._images.validate(self._batches[index]))

    def on_epoch_begin(self):
        self._batches.on_epoch_begin()

    def on_epoch_end(self):
        self._batches.on_epoch_end()


def open_inputs(
    train: Any, validation: Any, spec: InputSpec, seed: int
) -> tuple[LabelledImages, LabelledImages | None]:
    """The training and validation images of `fine_tune` as `LabelledImages`.

    Args:
        train, validation, seed: as `fine_tune` takes them.
        spec: `InputSpec` of the model.

    Returns:
        ``(train, validation)``; None for a validation of None.

    Raises:
        ValueError, TypeError: `fine_tune` does not take them.
        FileNotFoundError: a folder does not exist.
    """
    share = float(validation) if isinstance(validation, numbers.Real) and not isinstance(validation, bool) else None
    if share is not None and not 0 < share < 1:
        raise ValueError(f"validation={validation} must be a fraction between 0 and 1.")
    if isinstance(validation, (str, os.PathLike)) and not os.path.isdir(validation):
        raise FileNotFoundError(f"validation={os.fspath(validation)!r} is not an existing folder.")
    train = _open("train", train, spec)
    if share is not None:
        if not train.in_memory:
            raise ValueError(
                f"validation={validation}: batches cannot be split: pass validation batches, or None for no validation."
            )
        parts = split_images(train.class_indices, (1 - share, share), seed, train.class_names)
        return train.subset("train", parts[0]), train.subset("validation", parts[1])
    return train, None if validation is None else _open("validation", validation, spec, train.class_names)


def _open(argument, value, spec, class_names=None):
    names = None
    if isinstance(value, (str, os.PathLike)):
        found = class_names or (scan_classes(value).class_names if os.path.isdir(value) else ())
        check_class_names(found, f"{argument} {os.fspath(value)}")
        if len(found) > 1:  # before the images are read, which rejects a single class
            _check_class_count(argument, found, spec)
        value = read_folder(value, spec.image_shape[:2], class_names=class_names)
        for problem in value.damaged:
            warn_caller(f"{problem} It is left out.")
    if isinstance(value, ImageFolder):
        value, names = (value.images, _renumbered(argument, value, class_names)), class_names or value.class_names
        _check_class_count(argument, names, spec)
    if _holds_arrays(value):
        images, labels, weights = spec.validate(argument, *value)
        spec.check_pixels(argument, images)
        return LabelledImages(argument, spec, images, labels, weights, names)
    indexed = isinstance(value, keras.utils.PyDataset)
    cardinality = getattr(value, "cardinality", None)
    if not callable(getattr(value, "cardinality", len)):
        raise TypeError(
            f"{argument} is a distributed dataset, {type(value).__name__}: pass the dataset that it was made from, "
            "whose batches are divided among the devices here."
        )
    if int(cardinality()) == -1 if cardinality else indexed and value.num_batches is None:
        raise ValueError(f"{argument} never ends: pass batches of one pass over the images (no repeat()).")
    is_array = isinstance(value, np.ndarray) or keras.ops.is_tensor(value)
    if is_array or isinstance(value, dict) or not (indexed or hasattr(value, "__iter__")):
        raise TypeError(
            f"{argument} must be (images, labels), batches (tf.data.Dataset, keras.utils.PyDataset, DataLoader) or a "
            f"folder, not {type(value).__name__}."
            + (" Pass both as one argument: fine_tune(model, (images, labels))." if is_array else "")
        )
    if isinstance(value, collections.abc.Iterator) and not indexed:  # ImageDataGenerator.flow is both
        raise TypeError(
            f"{argument} is a {type(value).__name__}, which can be iterated only once, and every epoch iterates it: "
            "pass an iterable that starts again, such as list(batches)."
        )
    return LabelledImages(argument, spec, value)


def _check_class_count(argument, names, spec):
    if len(names) != spec.classes:
        raise ValueError(
            f"{argument} has {len(names)} classes ({some(names)}), but the model has {spec.classes} outputs: build it "
            f"with classes={len(names)}, such as from_pretrained(name, classes={len(names)})."
        )


def _renumbered(argument, folder, class_names):
    """Labels of an `ImageFolder` as indices into the class names of the training images, if those are known."""
    if class_names is None or tuple(folder.class_names) == tuple(class_names):
        return folder.labels
    others = sorted(set(folder.class_names) - set(class_names))
    if others:
        raise ValueError(f"{argument}: the training images have no class {some(others)}.")
    return np.array([class_names.index(name) for name in folder.class_names])[folder.labels]


def _holds_arrays(value):
    """Whether this is (images, labels) or (images, labels, weights), and not a list of two or three batches."""
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        return False
    images, labels, *_ = value
    if not isinstance(images, (tuple, list)) or not images:
        return True
    # A list of images has images in it, and its labels are numbers or rows; a batch has arrays of several images.
    batch = isinstance(labels, (tuple, list)) and (not labels or _rank(labels[0]) > 1)
    return _rank(images[0]) == 3 and not batch


def _rank(value):
    """Number of axes; 99 for what is not an array."""
    if isinstance(value, (tuple, list)):
        return 1 + max(map(_rank, value), default=0)
    if hasattr(value, "__array_interface__"):  # an array, or an image of Pillow
        return np.ndim(value)
    return len(value.shape) if hasattr(value, "shape") else 0 if np.isscalar(value) else 99


def check_divisible(argument: str, count: int) -> None:
    """Raises ValueError unless the devices that share a batch of `count` images get equally many."""
    devices = batch_devices()
    if count % devices:
        raise ValueError(
            f"{argument}: a batch of {count} images does not divide among {devices} devices: pass batches of a "
            "multiple of that, the last one too (drop_remainder=True), or arrays, which are divided here."
        )
