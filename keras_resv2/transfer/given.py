"""What `fine_tune` takes as pictures and labels: arrays, batches, folders."""

import collections.abc
import dataclasses
import os
import warnings

import keras
import numpy as np

from keras_resv2.data import ImageFolder, read_folder, split_images

AT_ONCE = 256


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

    def check(self, argument, images, labels):
        """Raises ValueError unless pictures ``(n, height, width, 3)`` with class numbers ``(n,)`` fit the model."""
        fits = images.ndim == 4 and all(
            wanted in (None, have) for wanted, have in zip(self.image_shape, images.shape[1:], strict=True)
        )
        if not fits:
            size = tuple(32 if side is None else side for side in self.image_shape[:2])
            raise ValueError(
                f"{argument}: images are {images.shape}, the model takes (n, {', '.join(map(str, self.image_shape))}): "
                f"images = keras_resv2.prepare_images(images, {size}) makes grey pictures and other sizes fit; single "
                "pictures of a tf.data.Dataset become batches by .batch(32)."
            )
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise ValueError(f"{argument}: some pixels are no finite numbers.")
        if len(images) != len(labels):
            raise ValueError(f"{argument}: {len(images)} images but {len(labels)} labels.")
        if len(labels) and (labels.min() < 0 or labels.max() >= self.classes):
            raise ValueError(
                f"{argument}: labels go from {labels.min()} to {labels.max()}, the model has {self.classes} classes: "
                "from_pretrained(name, classes=...) gives it others."
            )

    def warn_of_scale(self, argument, images):
        """Warns of pictures that look scaled to 0 to 1 where the model scales them itself."""
        if self.raw_pixels and images.size and 0 < images.max() <= 1:
            warnings.warn(
                f"{argument}: pixels go up to {images.max():.3g}, and the model takes 0 to 255: do not scale them.",
                stacklevel=2,
            )


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with labels, in memory or in batches of the caller's.

    Attributes:
        argument: what to call them in messages.
        expected: `Expected`.
        images, labels: arrays ``(n, height, width, 3)`` and ``(n,)``; or, of the caller's batches, those
            batches and None.
        class_names: of a folder; or None.
    """

    argument: str
    expected: Expected
    images: object
    labels: np.ndarray | None = None
    class_names: tuple | None = None

    @property
    def in_memory(self):
        return self.labels is not None

    def part(self, argument, positions):
        """Some of these pictures."""
        return dataclasses.replace(
            self, argument=argument, images=self.images[positions], labels=self.labels[positions]
        )

    def batches(self):
        """Yields ``(images, labels)``, once through all, in a fixed number of images where they are in memory.

        Raises:
            ValueError, TypeError: a batch is none, or does not fit the model.
        """
        if self.in_memory:
            for first in range(0, len(self.labels), AT_ONCE):
                yield self.images[first : first + AT_ONCE], self.labels[first : first + AT_ONCE]
            return
        indexed = isinstance(self.images, keras.utils.PyDataset)
        batches = (self.images[i] for i in range(self.images.num_batches)) if indexed else self.images
        for number, batch in enumerate(batches):
            images, labels = self._pair(batch)
            if number == 0:
                self.expected.warn_of_scale(self.argument, images)
            yield images, labels

    def _pair(self, batch):
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(f"{self.argument}: each batch must be (images, labels), not {type(batch).__name__}.")
        images = np.asarray(batch[0])
        labels = class_numbers(self.argument, batch[1], self.expected.classes) if images.ndim == 4 else ()
        self.expected.check(self.argument, images, labels)
        return images, labels

    def for_fit(self, count, class_weight=None):
        """As `keras.Model.fit` takes them, labels as class numbers.

        Args:
            count: how many batches there are.
            class_weight: factors of the loss by class number, or None.

        Returns:
            ``(data, steps, class_weight)``: steps is None where the data end by themselves, class_weight
            where the data have it in them.
        """
        if self.in_memory:
            return (self.images, self.labels), None, class_weight
        if hasattr(self.images, "element_spec"):  # tf.data stays in TensorFlow
            return self.images.map(_numbered), None, class_weight
        if isinstance(self.images, keras.utils.PyDataset):
            return _Numbered(self.images, self._pair), None, class_weight
        return self._over_and_over(class_weight), count, None

    def _over_and_over(self, class_weight):
        while True:
            for images, labels in map(self._pair, self.images):
                if class_weight is None:
                    yield images, labels
                else:
                    yield images, labels, np.array([class_weight.get(int(k), 1.0) for k in labels], "float32")


def _numbered(images, labels, *weights):
    if labels.shape.rank == 2 and labels.shape[1] != 1:
        import tensorflow as tf

        labels = tf.argmax(labels, axis=1)
    return images, labels, *weights


class _Numbered(keras.utils.PyDataset):
    """Another PyDataset, labels as class numbers."""

    def __init__(self, batches, pair):
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self._batches, self._pair = batches, pair

    @property
    def num_batches(self):
        return self._batches.num_batches

    def __getitem__(self, index):
        batch = self._batches[index]
        return *self._pair(batch), *batch[2:]

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
        parts = split_images(train.labels, (1 - validation, validation), seed, train.class_names)
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
    if isinstance(given, (tuple, list)) and len(given) == 2 and not isinstance(given[0], (tuple, list)):
        images, labels = np.asarray(given[0]), class_numbers(argument, given[1], expected.classes)
        expected.check(argument, images, labels)
        expected.warn_of_scale(argument, images)
        return Pictures(argument, expected, images, labels, names)
    endless = isinstance(given, keras.utils.PyDataset) and given.num_batches is None
    if hasattr(given, "cardinality"):
        endless = int(given.cardinality()) == -1
    if endless:
        raise ValueError(f"{argument} never ends: give batches that go through the pictures once (no repeat()).")
    batches = hasattr(given, "__iter__") or isinstance(given, keras.utils.PyDataset)
    if isinstance(given, (np.ndarray, dict)) or not batches:
        raise TypeError(
            f"{argument} must be (images, labels), batches (tf.data.Dataset, keras.utils.PyDataset, DataLoader) or a "
            f"folder, not {type(given).__name__}."
        )
    if isinstance(given, collections.abc.Iterator):
        raise TypeError(
            f"{argument} is a {type(given).__name__}, which can be gone through only once, and every epoch needs it: "
            "give batches that begin again, as list(batches)."
        )
    return Pictures(argument, expected, given)


def class_numbers(argument, labels, classes):
    """Labels ``(n,)`` as int32, from numbers or from one-hot rows ``(n, classes)``."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.shape[1] != classes:
            raise ValueError(
                f"{argument}: labels are {labels.shape}, a column for each class, but the model has {classes} classes."
            )
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    if len(labels) == 0:
        raise ValueError(f"{argument}: there are no pictures.")
    if labels.dtype.kind not in "iu" and not (labels.dtype.kind == "f" and (labels == labels.round()).all()):
        raise ValueError(f"{argument}: labels must be class numbers from 0, not {labels.dtype} such as {labels[0]!r}.")
    return labels.astype("int32")
