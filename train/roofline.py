"""Roofline model of a training step: a lower bound of its time from operations, bytes and the device's peak rates.

No implementation of the network can be much faster than the larger of the two times.
"""

import math
import time

import keras
from keras import ops

from keras_resv2.models.flops import count_multiply_adds, weighted_calls

MATRIX, VECTOR = 4096, 2**26
REPEATS = 5
# Duration of all calls of one measurement, long compared with the milliseconds before the first and after the last.
SECONDS, MAX_CALLS = 0.1, 10_000


def roofline(model, batch_size, dtype):
    """Computes a lower bound of a step's time from the device's peak rates, measured here.

    Args:
        model: a functional `keras.Model` with a fixed input size.
        batch_size: images per step.
        dtype: dtype of the activations: "float32", "bfloat16" or "float16".

    Returns:
        Dictionary: operations and bytes of a step, operations_per_second (a large matrix product),
        bytes_per_second (a large copy, read and written), seconds (the larger of the two quotients).
    """
    counts = {"operations": count_operations(model) * batch_size, "bytes": count_bytes(model, dtype) * batch_size}
    rates = {"operations_per_second": _matrix_rate(dtype), "bytes_per_second": _copy_rate()}
    seconds = max(n / rate for n, rate in zip(counts.values(), rates.values(), strict=True))
    return {**counts, **rates, "seconds": seconds}


def count_operations(model):
    """Counts the floating-point operations of training on one image: three products per layer, two operations each.

    The products are the forward pass and the gradients with respect to input and weights.
    """
    return 6 * count_multiply_adds(model)


def count_bytes(model, dtype):
    """Counts the minimum memory traffic of activations in bytes for training on one image, assuming perfect fusion.

    Each of the three products of a layer reads or writes its input or its gradient, and its output or its gradient.
    Weights are ignored, because they are shared by a batch.
    """
    moved = sum(
        count * math.prod(tensor.shape[1:])
        for node, count in weighted_calls(model)
        for tensor in (*node.input_tensors, *node.outputs)
    )
    return 3 * moved * (4 if dtype == "float32" else 2)


def _matrix_rate(dtype):
    """Measures the operations per second of a product of two square matrices."""
    # With this scale the magnitude of repeated products stays constant.
    a = ops.cast(keras.random.normal((MATRIX, MATRIX), stddev=MATRIX**-0.5), dtype)
    product = _compiled(ops.matmul)
    return 2 * MATRIX**3 / seconds_per_call(lambda x: product(a, x), a, _wait)


def _copy_rate():
    """Measures the bytes per second of a copy, counting both reads and writes."""
    return 2 * 4 * VECTOR / seconds_per_call(_compiled(ops.negative), keras.random.normal((VECTOR,)), _wait)


def seconds_per_call(function, x, wait, clock=time.perf_counter):
    """Measures the device time of a function, without the host's overhead of launching and waiting.

    Calls are launched in sequence, each on the result of the one before, so that they take `SECONDS` in total: the host
    runs ahead of the device and waits only once.

    Args:
        function: function from an array to one of the same shape; it may be asynchronous.
        x: the first array.
        wait: function of an array that blocks until it is computed.
        clock: function that returns the time in seconds.

    Returns:
        Seconds, the minimum of several measurements.

    Example:

    >>> clock = iter(range(0, 1000, 2))
    >>> seconds_per_call(lambda x: x, 0, lambda x: None, clock=lambda: next(clock))
    2.0
    """

    def measure(calls):
        result, started = x, clock()
        for _ in range(calls):
            result = function(result)
        wait(result)
        return clock() - started

    measure(1)  # compiles
    calls = 1
    while (seconds := measure(calls)) < SECONDS and calls < MAX_CALLS:
        calls = min(MAX_CALLS, max(2 * calls, math.ceil(calls * SECONDS / max(seconds, SECONDS / MAX_CALLS))))
    return min(seconds, *(measure(calls) for _ in range(REPEATS - 1))) / calls


def _compiled(function):
    """Compiles a function of arrays if the backend supports it, which makes launching cheaper."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def _wait(x):
    float(ops.cast(ops.ravel(x)[0], "float32"))
