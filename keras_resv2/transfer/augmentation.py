"""Training batches of pictures in memory, shifted and mirrored at random."""

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.evaluation import batch_devices

AUGMENTATIONS = ("crop", "flip")
CROP_SHARE = 1 / 8  # of the picture's side: the 4 pixels of 32 that the papers shift by


class AugmentedBatches(keras.utils.PyDataset):
    """Shuffled training batches of pictures in memory, shifted and mirrored at random.

    Every epoch has another order, and leaves out the few pictures that fill no batch. All follows from
    the seed.

    Args:
        images: uint8 or float ``(n, height, width, 3)``, 0 to 255.
        labels: ``(n,)`` or ``(n, classes)``.
        weights: ``(n,)``, factors of the loss, which batches then have too; or None.
        batch_size: images per step; all n where that is fewer. It is rounded down to what divides among devices.
        augment: of "crop" (shifted by up to an eighth of the side, filled by reflection) and "flip"
            (mirrored left-right half the time).
        seed: of the order and the augmentation.
    """

    def __init__(self, images, labels, batch_size, augment=AUGMENTATIONS, seed=0, weights=None):
        super().__init__()
        self._labels, self._weights, self._augment, self._seed = labels, weights, tuple(augment), seed
        self._size = divided(min(batch_size, len(labels)))
        self._shape, self._epoch = images.shape[1:3], 0
        pads = [int(side * CROP_SHARE) if "crop" in augment else 0 for side in self._shape]
        self._shifts = [2 * pad for pad in pads]
        self._padded = np.pad(images, [(0, 0), *((pad, pad) for pad in pads), (0, 0)], mode="reflect")
        self._start_epoch()

    def __len__(self):
        return batch_count(len(self._labels), self._size)

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
        labels = self._labels[chosen]
        return (
            (np.stack(images), labels) if self._weights is None else (np.stack(images), labels, self._weights[chosen])
        )

    def on_epoch_end(self):
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self):
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._labels))
        self._order = np.resize(order, max(self._size, len(order)))  # fewer images than devices: some twice


def batch_count(images, batch_size):
    """How many batches an epoch has: whole ones, of which there is one at least."""
    return max(1, images // divided(min(batch_size, images)))


def divided(count):
    """The largest batch of at most `count` images that divides among the devices; of one image for each at least."""
    devices = batch_devices()
    return max(1, count // devices) * devices


def check_augment(augment):
    """Returns `augment` as a tuple of names of `AUGMENTATIONS`, or raises ValueError."""
    names = (augment,) if isinstance(augment, str) else tuple(augment or ())
    return tuple(check_choice("augment", name, AUGMENTATIONS) for name in names)
