"""Cutout and mixup, applied to the images of a batch after crop and flip.

The host draws a few numbers per step from (seed, step) and the compiled step applies them in integer arithmetic, so the
same seed and step give the same images on every backend. Keras' layers (`RandomErasing`, `MixUp`) instead draw inside
the step from their own state, with different numbers on each backend.
"""

import numpy as np
from keras import ops

from train.data.source import SourceWrapper
from train.losses import SHARES, Targets


class MixedBatches(SourceWrapper):
    """The batches of another source with cutout, mixup, or both.

    Args:
        source: `train.data.source.BatchSource`; cutout requires `image_size` and `mean_color`.
        recipe: `train.recipe.Recipe`.
        seed: random seed of the run.

    Raises:
        ValueError: if the squares are larger than the images.

    Example:

    >>> source = MixedBatches(DeviceData(images, labels, recipe, 0), recipe, seed=0)  # doctest: +SKIP
    """

    def __init__(self, source, recipe, seed):
        super().__init__(source)
        self._recipe, self._seed = recipe, seed
        if recipe.cutout:
            recipe.check_cutout(source.image_size)

    def batches(self, first):
        """Yields the batches of the source for step `first` and all following steps, with the drawn numbers."""
        here = self._recipe.batch_size // self.num_shards
        part = slice(self.shard_index * here, (self.shard_index + 1) * here)
        for step, batch in enumerate(self._source.batches(first), first):
            yield (*batch, *(numbers[part] for numbers in self.draw(step)))

    def draw(self, step):
        """Draws rows and columns of the cutout centers and mixup weights of a step, int32 ``(batch_size,)`` each.

        A batch has a single share, drawn from Beta(alpha, alpha), as in the authors' code. Neighboring images are
        mixed with each other, so the larger share can always be the image's own.
        """
        size, drawn = self._recipe.batch_size, []
        if self._recipe.cutout:
            rng = np.random.default_rng((self._seed, 4, step))
            drawn += [rng.integers(0, side, size) for side in self.image_size]
        if self._recipe.mixup:
            share = np.random.default_rng((self._seed, 5, step)).beta(self._recipe.mixup, self._recipe.mixup)
            drawn.append(np.full(size, round(SHARES * max(share, 1 - share))))
        return tuple(numbers.astype("int32") for numbers in drawn)

    def augment(self, device_data, *batch):
        """Returns uint8 images ``(batch, height, width, 3)`` and `Targets` of a step, in the compiled step."""
        *batch, shares = batch if self._recipe.mixup else (*batch, None)
        *batch, rows, columns = batch if self._recipe.cutout else (*batch, None, None)
        images, labels = self._source.augment(device_data, *batch)
        if rows is not None:
            images = cut_out(images, rows, columns, self._recipe.cutout, self.mean_color)
        if shares is None:
            return images, labels
        return mix(images, swap_neighbours(images), shares), Targets(labels, swap_neighbours(labels), shares)


def cut_out(images, rows, columns, side, color):
    """Fills a square of each image with one color: DeVries & Taylor 2017 (arXiv 1708.04552).

    Args:
        images: ``(batch, height, width, 3)``.
        rows, columns: ``(batch,)``: centers of the squares, which may extend beyond the border.
        side: side of the squares, in pixels.
        color: three numbers: the mean color, which becomes zero after normalization, as in the paper.
    """

    def inside(centres, length):
        distances = ops.arange(length, dtype="int32")[None] - (centres[:, None] - side // 2)
        return ops.logical_and(distances >= 0, distances < side)

    height, width = images.shape[1:3]
    hole = ops.logical_and(inside(rows, height)[:, :, None], inside(columns, width)[:, None, :])
    return ops.where(hole[..., None], ops.convert_to_tensor(np.asarray(color, "uint8")), images)


def mix(images, partners, shares):
    """Computes ``share * image + (1 - share) * partner``, rounded to integers: Zhang et al. 2018, equation 1.

    Args:
        images, partners: uint8 ``(batch, height, width, 3)``.
        shares: ``(batch,)``, in units of 1/256.
    """
    shares = ops.cast(shares, "int32")[:, None, None, None]
    mixed = shares * ops.cast(images, "int32") + (SHARES - shares) * ops.cast(partners, "int32")
    return ops.cast((mixed + SHARES // 2) // SHARES, "uint8")


def swap_neighbours(array):
    """Swaps the first and second entry of `array`, the third and fourth, and so on.

    Images are in random order, so neighbors are random pairs, and both are on the same device.
    """
    shape = tuple(array.shape[1:])
    return ops.reshape(ops.flip(ops.reshape(array, (-1, 2, *shape)), axis=1), (-1, *shape))
