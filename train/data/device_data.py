"""A small dataset on the accelerator: which images a step sees, and how they are cropped and flipped.

The host draws a few numbers per image (which one, how far it is shifted, whether it is flipped); the
compiled step turns them into images. All of it follows from (seed, step), so a resumed run sees what
an uninterrupted one would have, on any backend and any number of devices.
"""

import itertools

import numpy as np
from keras import ops

from train.data.shuffle import EpochShuffle

PLAIN_BATCH = 500  # images of `plain_images`, as many as are measured at a time


class DeviceData:
    """Augmented training batches of a dataset that stays on the accelerator as uint8.

    Epochs follow one another without a gap: a batch may hold the end of one and the start of the
    next, and every image is seen once per epoch.

    Args:
        images: uint8, ``(n, height, width, 3)``.
        labels: ``(n,)``.
        recipe: `train.recipe.Recipe`.
        seed: of the order, the crops and the flips.

    Attributes:
        device_data: what the accelerator keeps: all pixels ``(n * padded height * padded width, 3)`` and
            labels ``(n,)``.
        images_per_epoch: n.
        max_steps_per_dispatch: that one dispatch may run.
        num_shards: 1: every process draws the numbers of the whole batch.
        image_size: (height, width) of the images of a step.
        mean_color: of all images, uint8 ``(3,)``.

    Example:

    >>> source = DeviceData(images, labels, RECIPES["fast"], seed=0)  # doctest: +SKIP
    >>> images, classes = source.augment(source.device_data, *source.draw(100))  # doctest: +SKIP
    """

    max_steps_per_dispatch = 400
    num_shards, shard_index = 1, 0

    def __init__(self, images, labels, recipe, seed):
        self._recipe, self._seed, self.image_size = recipe, seed, images.shape[1:3]
        self.mean_color = mean_color(images)
        padded = pad_images(images, recipe.pad, recipe.pad_mode)
        self._padded_size = padded.shape[1:3]
        self.device_data = (padded.reshape(-1, images.shape[3]), np.asarray(labels, "int32"))
        self.images_per_epoch = len(labels)
        self._order = EpochShuffle(len(labels), seed)
        self._first_flip = np.random.default_rng((seed, 2)).integers(0, 2, len(images))

    def batches(self, first):
        """Yields `draw` of step `first` and all that follow."""
        return map(self.draw, itertools.count(first))

    def draw(self, step):
        """The numbers of a step's images: index, row and column of the crop, flip; int32 ``(batch_size,)`` each."""
        size = self._recipe.batch_size
        epochs, indices = self._order.images(np.arange(step * size, (step + 1) * size))
        rng = np.random.default_rng((self._seed, 1, step))
        rows, columns = rng.integers(0, 2 * self._recipe.pad + 1, (2, size))
        if self._recipe.flip == "alternating":
            flips = (self._first_flip[indices] + epochs) % 2
        else:
            flips = rng.integers(0, 2, size)
        return tuple(values.astype("int32") for values in (indices, rows, columns, flips))

    def augment(self, device_data, indices, rows, columns, flips):
        """Images ``(batch, height, width, 3)`` uint8 and labels ``(batch,)`` of drawn numbers, in the compiled step.

        One gather takes every pixel from where crop and flip say it stands.
        """
        pixels, labels = device_data
        (height, width), (padded_height, padded_width) = self.image_size, self._padded_size
        across = ops.arange(width, dtype="int32")
        across = ops.where(flips[:, None] == 1, width - 1 - across, across) + columns[:, None]
        down = ops.arange(height, dtype="int32") + rows[:, None] + padded_height * indices[:, None]
        positions = padded_width * down[:, :, None] + across[:, None, :]
        return ops.take(pixels, positions, axis=0), ops.take(labels, indices, axis=0)

    def plain_images(self):
        """Yields images as they are in the dataset, uint8 ``(n, height, width, 3)``, in the order of the run."""
        pixels, pad, (height, width) = self.device_data[0], self._recipe.pad, self.image_size
        padded = pixels.reshape(-1, *self._padded_size, pixels.shape[1])
        size = min(PLAIN_BATCH, self.images_per_epoch)
        for first in itertools.count(0, size):
            _, indices = self._order.images(np.arange(first, first + size))
            yield padded[indices, pad : pad + height, pad : pad + width]


def pad_images(images, pixels, mode):
    """Images with a border of `pixels` on each side: their mean colour, or their reflection."""
    if pixels == 0:
        return images
    width = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    if mode == "reflect":
        return np.pad(images, width, mode="reflect")
    padded = np.empty((len(images), images.shape[1] + 2 * pixels, images.shape[2] + 2 * pixels, 3), images.dtype)
    padded[:] = mean_color(images)
    padded[:, pixels:-pixels, pixels:-pixels] = images
    return padded


def mean_color(images):
    """Mean of all pixels by channel, rounded to the images' own kind of number."""
    return images.mean((0, 1, 2)).round().astype(images.dtype)
