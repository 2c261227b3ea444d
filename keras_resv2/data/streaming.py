"""Batches of images, read and decoded by threads while the network computes.

Threads are used because Pillow releases the interpreter lock while decoding. tf.data and Grain, calling the same
function, took 3.8 and 3.5 ms of a core per image of 500x375 pixels, threads 3.4 (median of ten rounds,
`benchmarks/RESULTS.md`).
"""

import collections
import concurrent.futures

import numpy as np

from keras_resv2.startup import usable_cores

PREFETCHED = 4  # batches that are ready, or in progress, ahead of the network


def batches(load, positions, batch_size, size, workers=None):
    """Maps `load` over positions, in parallel and in order.

    Args:
        load: function from a position to ``(crop, label)``; must be thread-safe.
        positions: a `range`.
        batch_size: images per batch; the last batch may be smaller.
        size: side of the crops in pixels.
        workers: number of threads; None for one per core.

    Yields:
        ``(images, labels)``: uint8 ``(batch_size, size, size, 3)`` and int32 ``(batch_size,)``.

    Raises:
        Exception: the exception raised by `load`, at the batch of its position.
    """

    def fill(images, labels, row, position):
        images[row], labels[row] = load(position)

    def start(chosen):
        images, labels = np.empty((len(chosen), size, size, 3), "uint8"), np.empty(len(chosen), "int32")
        return images, labels, [pool.submit(fill, images, labels, *row) for row in enumerate(chosen)]

    pool = concurrent.futures.ThreadPoolExecutor(workers or len(usable_cores()))
    ahead = collections.deque()
    try:
        for first in range(0, len(positions), batch_size):
            ahead.append(start(positions[first : first + batch_size]))
            if len(ahead) > PREFETCHED:
                yield _finished(ahead.popleft())
        while ahead:
            yield _finished(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(batch):
    images, labels, tasks = batch
    for task in tasks:
        task.result()
    return images, labels
