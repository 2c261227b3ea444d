"""What `fine_tune` takes as pictures and labels, and the batches made of it."""

import dataclasses
import os
import warnings

import keras
import numpy as np

from keras_resv2.choices import check_choice
from keras_resv2.transfer.pictures import LabelledPictures, read_folder, split_pictures

AUGMENTATIONS = ("crop", "flip")
CROP_SHARE = 1 / 8  # of the picture's side: the 4 pixels of 32 that the papers shift by
AT_ONCE = 256


class AugmentedBatches(keras.utils.PyDataset):
    """Shuffled training batches of pictures in memory, shifted and mirrored at random.

    Every epoch has another order, and leaves out the few pictures that fill no batch. All follows from
    the seed.

    Args:
        images: uint8 or float ``(n, height, width, 3)``, 0 to 255.
        labels: ``(n,)``.
        batch_size: images per step; all n where that is fewer.
        augment: of "crop" (shifted by up to an eighth of the side, filled by reflection) and "flip"
            (mirrored left-right half the time).
        seed: of the order and the augmentation.
    """

    def __init__(self, images, labels, batch_size, augment=AUGMENTATIONS, seed=0):
        super().__init__()
        self._labels, self._augment, self._seed = labels, tuple(augment), seed
        self._size = min(batch_size, len(labels))
        self._shape, self._epoch = images.shape[1:3], 0
        pads = [int(side * CROP_SHARE) if "crop" in augment else 0 for side in self._shape]
        self._shifts = [2 * pad for pad in pads]
        self._padded = np.pad(images, [(0, 0), *((pad, pad) for pad in pads), (0, 0)], mode="reflect")
        self._start_epoch()

    def __len__(self):
        return len(self._labels) // self._size

    def __getitem__(self, index):
        rng = np.random.default_rng((self._seed, self._epoch, 1 + index))
        chosen = self._order[index * self._size :][: self._size]
        corners = [rng.integers(0, shift + 1, len(chosen)) for shift in self._shifts]
        mirrored = rng.random(len(chosen)) < (0.5 if "flip" in self._augment else 0)
        height, width = self._shape
        images = [
            self._padded[i, top : top + height, left : left + width]
            for i, top, left in zip(chosen, *corners, strict=True)
        ]
        images = [image[:, ::-1] if mirror else image for image, mirror in zip(images, mirrored, strict=True)]
        return np.stack(images), self._labels[chosen]

    def on_epoch_end(self):
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self):
        self._order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._labels))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with labels, in memory or in batches of the caller's.

    Attributes:
        images, labels: arrays ``(n, height, width, 3)`` and ``(n,)``; or, of the caller's batches, those
            batches and None.
    """

    images: object
    labels: np.ndarray | None

    @property
    def in_memory(self):
        return self.labels is not None

    def for_fit(self):
        """As `keras.Model.fit` takes validation data."""
        return (self.images, self.labels) if self.in_memory else self.images

    def batches(self):
        """Yields ``(images, labels)``, once through all, in a fixed number of images where they are in memory."""
        if self.in_memory:
            for first in range(0, len(self.labels), AT_ONCE):
                yield self.images[first : first + AT_ONCE], self.labels[first : first + AT_ONCE]
        elif isinstance(self.images, keras.utils.PyDataset):
            for index in range(self.images.num_batches):
                yield _pair(self.images[index])
        else:
            yield from map(_pair, self.images)


def open_pictures(train, validation, image_shape, seed):
    """What `fine_tune` was given, as `Pictures`.

    Args:
        train, validation, seed: as `fine_tune` takes them.
        image_shape: of the model's input, ``(height, width, 3)``; None for sides that may vary.

    Returns:
        ``(train, validation)``: `Pictures`; None for a validation that is None.

    Raises:
        ValueError, TypeError: they are none of what `fine_tune` takes.
    """
    train = _open("train", train, image_shape)
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        if not train.in_memory:
            raise ValueError(
                f"validation={validation}: batches cannot be split; give the validation batches, or None to go without."
            )
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation} must be a share between 0 and 1.")
        parts = split_pictures(train.labels, (1 - validation, validation), seed)
        return tuple(Pictures(train.images[part], train.labels[part]) for part in parts)
    return train, None if validation is None else _open("validation", validation, image_shape)


def check_augment(augment):
    """Returns `augment` as a tuple of names of `AUGMENTATIONS`, or raises ValueError."""
    names = (augment,) if isinstance(augment, str) else tuple(augment or ())
    return tuple(check_choice("augment", name, AUGMENTATIONS) for name in names)


def _open(argument, given, image_shape):
    if isinstance(given, (str, os.PathLike)):
        given = read_folder(given, image_shape[:2])
        for problem in given.damaged:
            warnings.warn(f"{problem} It is left out.", stacklevel=4)
    if isinstance(given, LabelledPictures):
        given = given.images, given.labels
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return _in_memory(argument, *map(np.asarray, given), image_shape)
    endless = isinstance(given, keras.utils.PyDataset) and given.num_batches is None
    if hasattr(given, "cardinality"):
        endless = int(given.cardinality()) == -1
    if endless:
        raise ValueError(f"{argument} never ends: give batches that go through the pictures once (no repeat()).")
    batches = hasattr(given, "__iter__") or isinstance(given, keras.utils.PyDataset)
    if isinstance(given, np.ndarray) or not batches:
        raise TypeError(
            f"{argument} must be (images, labels), batches (tf.data.Dataset, keras.utils.PyDataset, DataLoader) or a "
            f"folder, not {type(given).__name__}."
        )
    return Pictures(given, None)


def _in_memory(argument, images, labels, image_shape):
    fits = images.ndim == 4 and all(
        wanted in (None, have) for wanted, have in zip(image_shape, images.shape[1:], strict=True)
    )
    if not fits:
        size = tuple(32 if side is None else side for side in image_shape[:2])
        raise ValueError(
            f"{argument}: images are {images.shape}, the model takes (n, {', '.join(map(str, image_shape))}): "
            f"images = keras_resv2.prepare_images(images, {size}) makes grey pictures and other sizes fit."
        )
    if len(images) != len(labels):
        raise ValueError(f"{argument}: {len(images)} images but {len(labels)} labels.")
    if len(labels) == 0:
        raise ValueError(f"{argument}: there are no pictures.")
    return Pictures(images, class_numbers(labels))


def class_numbers(labels):
    """Labels ``(n,)`` as int32, from numbers or from one-hot rows ``(n, classes)``."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu" and not (labels.dtype.kind == "f" and (labels == labels.round()).all()):
        raise ValueError(f"labels must be class numbers from 0, not {labels.dtype} such as {labels[0]!r}.")
    return labels.astype("int32")


def _pair(batch):
    images, labels = batch[:2]
    return np.asarray(images), class_numbers(labels)
