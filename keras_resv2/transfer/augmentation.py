"""Augmented training batches of images in memory: random crops and flips."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.evaluation import batch_devices

AUGMENTATIONS = ("crop", "flip")
CROP_SHARE = 1 / 8  # of the side of an image: the 4 pixels of 32 that the papers shift by


class AugmentedBatches(keras.utils.PyDataset):
    """Shuffled training batches of images in memory, cropped and flipped at random.

    Every epoch has a new order and leaves out the images that do not fill a batch. The seed determines all of it.

    Args:
        images: uint8 or float ``(n, height, width, 3)``, 0 to 255.
        labels: ``(n,)`` or ``(n, classes)``.
        batch_size: images per step, all n if there are fewer; rounded down to a multiple of the number of devices.
        augment: any of "crop" (shifts by up to an eighth of the side, padded by reflection) and "flip" (mirrors left
            and right with probability 1/2).
        seed: of the order and the augmentation.
        weights: loss weights ``(n,)``, a third array of each batch; or None.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        augment: Sequence[str] = AUGMENTATIONS,
        seed: int = 0,
        weights: np.ndarray | None = None,
    ):
        super().__init__()
        self._labels, self._weights, self._augment, self._seed = labels, weights, tuple(augment), seed
        self._size = divisible_size(min(batch_size, len(labels)))
        self._shape, self._epoch = images.shape[1:3], 0
        pads = [int(side * CROP_SHARE) if "crop" in augment else 0 for side in self._shape]
        self._images, self._pads = images, [(0, 0), *((pad, pad) for pad in pads), (0, 0)]
        self._start_epoch()

    def __len__(self):
        return batch_count(len(self._labels), self._size)

    def __getitem__(self, index):
        rng = np.random.default_rng((self._seed, self._epoch, 1 + index))
        chosen = self._order[index * self._size :][: self._size]
        corners = [rng.integers(0, sum(pads) + 1, len(chosen)) for pads in self._pads[1:3]]
        mirrored = rng.random(len(chosen)) < (0.5 if "flip" in self._augment else 0)
        height, width = self._shape
        padded = np.pad(self._images[chosen], self._pads, mode="reflect")  # of the batch: all would fill the memory
        images = [
            image[top : top + height, left : left + width] for image, top, left in zip(padded, *corners, strict=True)
        ]
        images = [image[:, ::-1] if mirror else image for image, mirror in zip(images, mirrored, strict=True)]
        batch = np.stack(images), self._labels[chosen]
        return batch if self._weights is None else (*batch, self._weights[chosen])

    def on_epoch_end(self):
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self):
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._labels))
        self._order = np.resize(order, max(self._size, len(order)))  # fewer images than devices: some twice


def batch_count(images: int, batch_size: int) -> int:
    """Number of batches of an epoch: only full ones, and at least one."""
    return max(1, images // divisible_size(min(batch_size, images)))


def divisible_size(count: int) -> int:
    """The largest batch of at most `count` images that divides among the devices; at least one image per device."""
    devices = batch_devices()
    return max(1, count // devices) * devices


def check_augment(augment: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns `augment` as a tuple of names of `AUGMENTATIONS`, or raises ValueError."""
    names = (augment,) if isinstance(augment, str) else tuple(augment or ())
    return tuple(check_choice("augment", name, AUGMENTATIONS) for name in names)
