"""Batches for training: which images a step sees, and how they are cropped and flipped.

All of it follows from (seed, step), so a resumed run sees what an uninterrupted one would have.
"""

import numpy as np


class Batches:
    """Augmented training batches, addressed by step.

    Epochs follow one another without a gap: a batch may hold the end of one and the start of the
    next, and every image is seen once per epoch.

    Args:
        images: uint8, ``(n, height, width, 3)``.
        labels: ``(n,)``.
        recipe: `train.recipes.Recipe`.
        seed: of the order, the crops and the flips.

    Example:

    >>> images, labels = Batches(images, labels, RECIPES["fast"], seed=0)[100]  # doctest: +SKIP
    """

    def __init__(self, images, labels, recipe, seed):
        self._labels, self._recipe, self._seed = labels, recipe, seed
        self._size = images.shape[1:3]
        self._padded = pad_images(images, recipe.pad, recipe.pad_mode)
        self._orders = {}
        self._first_flip = np.random.default_rng((seed, 2)).integers(0, 2, len(images))

    def __getitem__(self, step):
        """Images ``(batch_size, height, width, 3)`` uint8 and labels ``(batch_size,)`` of a step."""
        epochs, indices = self._indices(step)
        count = len(indices)
        rng = np.random.default_rng((self._seed, 1, step))
        rows, columns = rng.integers(0, 2 * self._recipe.pad + 1, (2, count))
        if self._recipe.flip == "alternating":
            flips = (self._first_flip[indices] + epochs) % 2
        else:
            flips = rng.integers(0, 2, count)
        return crop_and_flip(self._padded[indices], rows, columns, flips, self._size), self._labels[indices]

    def _indices(self, step):
        """Epoch and position in the dataset of each image of a step."""
        n, size = len(self._labels), self._recipe.batch_size
        position = np.arange(step * size, (step + 1) * size)
        epochs, within = np.divmod(position, n)
        indices = np.empty(size, "int64")
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            indices[chosen] = self._order(int(epoch))[within[chosen]]
        return epochs, indices

    def _order(self, epoch):
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._labels))
        return self._orders[epoch]


def pad_images(images, pixels, mode):
    """Images with a border of `pixels` on each side: their mean colour, or their reflection."""
    if pixels == 0:
        return images
    width = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    if mode == "reflect":
        return np.pad(images, width, mode="reflect")
    padded = np.empty((len(images), images.shape[1] + 2 * pixels, images.shape[2] + 2 * pixels, 3), images.dtype)
    padded[:] = images.mean((0, 1, 2)).round().astype(images.dtype)
    padded[:, pixels:-pixels, pixels:-pixels] = images
    return padded


def crop_and_flip(images, rows, columns, flips, size):
    """The window of `size` at (row, column) of each image, mirrored left-right where `flips`."""
    height, width = size
    windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
    crops = windows[np.arange(len(images)), rows, columns]  # (n, channels, height, width)
    crops = np.where(np.asarray(flips, bool)[:, None, None, None], crops[..., ::-1], crops)
    return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
