"""A small dataset on the accelerator: selects the images of a step, and crops and flips them.

The host draws a few numbers per image (its index, shift and flip), from which the compiled step creates the images.
They depend only on (seed, step), so a resumed run sees the same images as an uninterrupted one, on any backend and any
number of devices.
"""

import itertools

import numpy as np
from keras import ops

from train.data.shuffle import EpochShuffle

PLAIN_BATCH = 500  # batch size of `plain_images`, the same as in evaluation


class DeviceData:
    """Augmented training batches of a dataset that stays on the accelerator as uint8.

    Epochs follow one another without a gap: a batch may contain the end of one and the start of the next, and every
    image is used once per epoch.

    Args:
        images: uint8, ``(n, height, width, 3)``.
        labels: ``(n,)``.
        recipe: `train.recipe.Recipe`.
        seed: random seed of the order, the crops and the flips.

    Attributes:
        device_data: arrays on the accelerator: all pixels ``(n * padded height * padded width, 3)`` and labels
            ``(n,)``.
        images_per_epoch: n.
        max_steps_per_dispatch: maximum number of steps in one dispatch.
        num_shards: 1, because every process draws the numbers of the whole batch.
        image_size: (height, width) of the training images.
        mean_color: mean color of all images, uint8 ``(3,)``.

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
        """Yields `draw` for step `first` and all following steps."""
        return map(self.draw, itertools.count(first))

    def draw(self, step):
        """Draws index, row and column of the crop, and flip of a step's images; int32 ``(batch_size,)`` each."""
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
        """Creates uint8 images ``(batch, height, width, 3)`` and labels ``(batch,)``, inside the compiled step.

        A single gather reads every pixel from its position after crop and flip.
        """
        pixels, labels = device_data
        (height, width), (padded_height, padded_width) = self.image_size, self._padded_size
        across = ops.arange(width, dtype="int32")
        across = ops.where(flips[:, None] == 1, width - 1 - across, across) + columns[:, None]
        down = ops.arange(height, dtype="int32") + rows[:, None] + padded_height * indices[:, None]
        positions = padded_width * down[:, :, None] + across[:, None, :]
        return ops.take(pixels, positions, axis=0), ops.take(labels, indices, axis=0)

    def plain_images(self):
        """Yields unmodified images of the dataset, uint8 ``(n, height, width, 3)``, in the order of the run."""
        pixels, pad, (height, width) = self.device_data[0], self._recipe.pad, self.image_size
        padded = pixels.reshape(-1, *self._padded_size, pixels.shape[1])
        size = min(PLAIN_BATCH, self.images_per_epoch)
        for first in itertools.count(0, size):
            _, indices = self._order.images(np.arange(first, first + size))
            yield padded[indices, pad : pad + height, pad : pad + width]


def pad_images(images, pixels, mode):
    """Pads images by `pixels` on each side with their mean color or their reflection."""
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
    """Computes the mean of all pixels per channel, rounded to the dtype of the images."""
    return images.mean((0, 1, 2)).round().astype(images.dtype)
