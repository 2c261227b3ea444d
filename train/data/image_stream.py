"""An endless stream of randomly cropped training batches, read from disk by threads while the network computes.

The content of a batch depends only on (seed, position in the stream); the number of workers only affects the speed.
"""

import functools
import time

import numpy as np

from keras_resv2.data.crops import read_crop
from keras_resv2.data.streaming import PREFETCHED, batches
from train.data.image_files import random_crop
from train.data.shuffle import EpochShuffle

FOREVER = 2**40  # steps


class TrainStream:
    """An endless stream of randomly cropped training batches.

    Epochs follow one another without a gap: a batch may contain the end of one and the start of the next, and every
    image is used once per epoch.

    Args:
        source: as `keras_resv2.data.sources.open_source` returns.
        batch_size: images per step.
        size: side of the crops in pixels: a number, or a list of ``(first step, end, side)``, see `Recipe.sides`.
        seed: of the order, the crops and the flips.
        part: (index, count) of processes: each decodes its part of every batch.
        workers: number of decoding threads; None for one per core.

    Attributes:
        images_per_epoch: number of images in the source.
        image_size: None, because the size may change from step to step.
        device_data: arrays on the accelerator: none, because batches are complete.
        max_steps_per_dispatch: maximum number of steps in one dispatch.
        num_shards: number of processes that contribute to a batch.
        shard_index: part of the batch that this process decodes.

    Example:

    >>> images, labels = next(TrainStream(source, 256, 224, seed=0).batches(first=100))  # doctest: +SKIP
    """

    device_data, image_size = (), None
    max_steps_per_dispatch = 4

    def __init__(self, source, batch_size, size, seed, part=(0, 1), workers=None):
        self.images_per_epoch = len(source)
        self.shard_index, self.num_shards = part
        self._here = batch_size // self.num_shards
        *earlier, (begin, _, last) = [(0, FOREVER, size)] if isinstance(size, int) else size
        self._sizes = [*earlier, (begin, FOREVER, last)]
        self._source, self._batch_size, self._seed = source, batch_size, seed
        self._workers = workers
        self._order = EpochShuffle(len(source), seed)

    def batches(self, first):
        """Yields the batches of steps `first`, `first` + 1, ...

        Args:
            first: step, counted from 0.

        Yields:
            ``(images, labels)``: uint8 ``(batch_size, size, size, 3)`` and int32 ``(batch_size,)``, or
            this process's part of them.

        Raises:
            ValueError: if an image cannot be read; raised at its batch.
        """
        for begin, end, size in self._sizes:
            if first < end:
                yield from self._batches(max(begin, first), end, size)

    def augment(self, device_data, images, labels):
        """Returns the images and labels of a batch unchanged."""
        return images, labels

    def plain_images(self):
        """Yields the images of the first batches; they are randomly cropped, as the stream has no others."""
        return (images for images, _ in self._batches(0, FOREVER, self._sizes[-1][2]))

    def speed(self, steps=20):
        """Measures the images per second of the stream on its own.

        Args:
            steps: number of batches to measure, after the first ones, which start the workers.
        """
        batches = self.batches(0)
        for _ in range(PREFETCHED + 1):
            next(batches)
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        seconds = time.perf_counter() - started
        batches.close()
        return steps * self._here / seconds

    def _batches(self, first, end, size):
        """Yields the batches of steps `first` to `end`, with crops of one size."""
        positions = range(first * self._here, end * self._here)
        return batches(functools.partial(self._load, size), positions, self._here, size, self._workers)

    def _load(self, size, position):
        """Reads crop and label of the image at a position of this process's part of the stream."""
        step, within = divmod(position, self._here)
        position = step * self._batch_size + self.shard_index * self._here + within
        rng = np.random.default_rng((self._seed, 1, position))
        crop = functools.partial(random_crop, size=size, rng=rng)
        return read_crop(self._source, self._order.image(position), crop)
