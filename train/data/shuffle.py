"""The order of training images: a new permutation every epoch, without gaps between epochs."""

import numpy as np


class EpochShuffle:
    """The order of images in the endless sequence of epochs.

    It is thread-safe: concurrent calls draw the same permutation.

    Args:
        images: number of images per epoch.
        seed: random seed of the run.

    Example:

    >>> EpochShuffle(4, seed=0).images(range(2, 6))
    (array([0, 0, 1, 1]), array([1, 3, 3, 1]))
    """

    def __init__(self, images, seed):
        self._images, self._seed = images, seed
        self._permutations = {}

    def images(self, positions):
        """Returns epochs and indices of the images at positions of the sequence, int64 ``(n,)`` each."""
        epochs, within = np.divmod(np.asarray(positions), self._images)
        indices = np.empty_like(within)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            indices[chosen] = self._permutation(epoch)[within[chosen]]
        return epochs, indices

    def image(self, position):
        """Returns the index of the image at one position."""
        epoch, within = divmod(position, self._images)
        return int(self._permutation(epoch)[within])

    def _permutation(self, epoch):
        found = self._permutations.get(epoch)
        if found is None:
            found = np.random.default_rng((self._seed, 0, epoch)).permutation(self._images)
            # A batch may contain the end of one epoch and the start of the next, so two permutations are kept.
            self._permutations = {e: p for e, p in self._permutations.items() if e == epoch - 1} | {epoch: found}
        return found
