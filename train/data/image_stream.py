"""Batches of pictures from disk: read, decoded and cropped by several workers while the network computes.

What a batch holds follows from (seed, position in the stream) alone. A runner maps a function from
position to (crop, label) over positions, in parallel and in order; which one, and how many workers it
has, changes the speed only.
"""

import atexit
import collections
import concurrent.futures
import functools
import importlib.util
import os
import time

import keras
import numpy as np

from keras_resv2.choices import check_choice
from keras_resv2.evaluation import find_mistakes
from train.data.image_files import centre_crop, random_crop, read_crop
from train.data.shuffle import EpochShuffle

PREFETCHED = 4  # batches that are ready, or being made, ahead of the network
AT_MOST_UNDER_WAY = 10_000  # batches, and errors in their place: far more than tf.data works on at once
FOREVER = 2**62


class TrainStream:
    """Randomly cropped training batches, for ever.

    Epochs follow one another without a gap: a batch may hold the end of one and the start of the
    next, and every picture is seen once per epoch.

    Args:
        source: as `keras_resv2.data.sources.open_source` returns.
        batch_size: images per step.
        size: side of the crops in pixels.
        seed: of the order, the crops and the flips.
        part: (index, number) of this process: each decodes its part of every batch.
        runner: a key of `RUNNERS`; None for the one that suits the backend.
        workers: threads that decode; None for one per processor, or what tf.data finds best.

    Attributes:
        images_per_epoch: pictures in the source.
        device_data: what stays on the accelerator: nothing, batches come whole.
        max_steps_per_dispatch: batches to dispatch at once, at most.
        num_shards: how many processes make up a batch.
        shard_index: which part of it this process decodes.

    Example:

    >>> images, labels = next(TrainStream(source, 256, 224, seed=0).batches(first=100))  # doctest: +SKIP
    """

    device_data = ()
    max_steps_per_dispatch = 4

    def __init__(self, source, batch_size, size, seed, part=(0, 1), runner=None, workers=None):
        self.images_per_epoch = len(source)
        self.shard_index, self.num_shards = part
        self._here = batch_size // self.num_shards
        self._source, self._batch_size, self._size, self._seed = source, batch_size, size, seed
        self._runner, self._workers = check_choice("runner", runner or default_runner(), RUNNERS), workers
        self._order = EpochShuffle(len(source), seed)

    def batches(self, first):
        """Yields the batches of steps `first`, `first` + 1, ...

        Args:
            first: step, counted from 0.

        Yields:
            ``(images, labels)``: uint8 ``(batch_size, size, size, 3)`` and int32 ``(batch_size,)``, or
            this process's part of them.

        Raises:
            ValueError: a picture cannot be read; raised at its batch.
        """
        positions = range(first * self._here, FOREVER)
        return batches(self._load, positions, self._here, self._size, self._runner, self._workers)

    def augment(self, device_data, images, labels):
        """The images and labels of a step from a batch on the accelerator: the batch as it is."""
        return images, labels

    def plain_images(self):
        """Yields the images of the first batches; there are none without random crops."""
        return (images for images, _ in self.batches(0))

    def speed(self, steps=20):
        """Images per second of the stream by itself, while nothing else computes.

        Args:
            steps: batches to measure, after the first ones, which start the workers.
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

    def _load(self, position):
        """Crop and label of the picture at a position of this process's part of the stream."""
        step, within = divmod(position, self._here)
        position = step * self._batch_size + self.shard_index * self._here + within
        rng = np.random.default_rng((self._seed, 1, position))
        crop = functools.partial(random_crop, size=self._size, rng=rng)
        return read_crop(self._source, self._order.image(position), crop)


def measure_error(model, source, shorter_side, size, batch_size=50, runner=None, workers=None):
    """Top-1 error, one view per picture: the centre crop, nothing averaged.

    Args:
        model: as `keras_resv2.evaluation.find_mistakes` takes it.
        source: as `keras_resv2.data.sources.open_source` returns.
        shorter_side: of the scaled picture, in pixels.
        size: side of the crop in pixels, at most `shorter_side`.
        batch_size: images per forward pass.
        runner, workers: as for `TrainStream`.

    Returns:
        Percent of the pictures whose highest score is not the label's.

    Raises:
        ValueError: the crop is larger than the picture, or a picture cannot be read.

    Example:

    >>> measure_error(model, source, shorter_side=256, size=224)  # doctest: +SKIP
    """
    if size > shorter_side:
        raise ValueError(f"a crop of {size} pixels does not fit into a shorter side of {shorter_side}.")
    crop = functools.partial(centre_crop, shorter_side=shorter_side, size=size)
    load = functools.partial(read_crop, source, crop=crop)
    views = batches(load, range(len(source)), batch_size, size, runner, workers)
    return 100.0 * float(find_mistakes(model, views).mean())


def batches(load, positions, batch_size, size, runner=None, workers=None):
    """Maps `load` over positions, in parallel and in order.

    Args:
        load: function from a position to ``(crop, label)``; several threads call it at once.
        positions: a `range`.
        batch_size: images per batch; the last one holds what is left.
        size: side of the crops in pixels.
        runner: a key of `RUNNERS`; None for the one that suits the backend.
        workers: threads; None for one per processor, or what tf.data finds best.

    Yields:
        ``(images, labels)``: uint8 ``(batch_size, size, size, 3)`` and int32 ``(batch_size,)``.
    """
    run = RUNNERS[check_choice("runner", runner or default_runner(), RUNNERS)]
    return run(load, positions, batch_size, size, workers)


def default_runner():
    """The runner of the backend in use: tf.data with TensorFlow, else Grain if it is installed, else threads."""
    if keras.backend.backend() == "tensorflow":
        return "tf.data"
    return "grain" if importlib.util.find_spec("grain") else "threads"


def _with_tf_data(load, positions, batch_size, size, workers):
    import tensorflow as tf

    with concurrent.futures.ThreadPoolExecutor(1) as outside:  # of a strategy's scope, which would make copies of it
        closing = outside.submit(tf.Variable, False, trainable=False).result()
    closed, failures = [], {}
    blank = np.zeros((size, size, 3), "uint8"), np.int32(0)

    def attempt(position):
        if closed:
            return blank
        try:
            return load(int(position))
        except Exception as error:
            failures[int(position)] = error
            raise

    def element(position):
        # Stateful functions run one at a time where TensorFlow is made deterministic; this one has no state.
        crop, label = tf.numpy_function(attempt, [position], (tf.uint8, tf.int32), stateful=False)
        return tf.ensure_shape(crop, (size, size, 3)), tf.ensure_shape(label, ())

    data = tf.data.Dataset.range(positions.start, positions.stop).take_while(lambda _: tf.logical_not(closing))
    data = data.map(element, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    found = data.batch(batch_size).prefetch(PREFETCHED).as_numpy_iterator()

    def end():
        # An iterator that goes while calls of Python are under way waits for them, and they for the interpreter
        # lock that its end holds: so the last calls come to their end first.
        closed.append(True)
        closing.assign(True)
        for _ in range(AT_MOST_UNDER_WAY):
            if _ended(found, tf.errors.OpError):
                break

    atexit.register(end)  # where a traceback keeps this generator to the end, as that of sys.exit
    try:
        yield from found
    except tf.errors.OpError:
        if not failures:
            raise
        # tf.data makes its own error of it; what came before is done, so the first failure is the one met.
        raise failures[min(failures)] from None
    finally:
        end()
        atexit.unregister(end)


def _ended(iterator, passed_over):
    try:
        return next(iterator, None) is None
    except passed_over:
        return False


def _with_grain(load, positions, batch_size, size, workers):
    import grain

    options = grain.ReadOptions(num_threads=workers or os.cpu_count(), prefetch_buffer_size=PREFETCHED * batch_size)
    data = grain.MapDataset.range(positions.start, positions.stop).map(load)
    yield from data.to_iter_dataset(options).batch(batch_size)


def _with_threads(load, positions, batch_size, size, workers):
    def fill(images, labels, row, position):
        images[row], labels[row] = load(position)

    def start(chosen):
        images, labels = np.empty((len(chosen), size, size, 3), "uint8"), np.empty(len(chosen), "int32")
        return images, labels, [pool.submit(fill, images, labels, *place) for place in enumerate(chosen)]

    pool = concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count())
    ahead = collections.deque()
    try:
        for at in range(0, len(positions), batch_size):
            ahead.append(start(positions[at : at + batch_size]))
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


RUNNERS = {"tf.data": _with_tf_data, "grain": _with_grain, "threads": _with_threads}
