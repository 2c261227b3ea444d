"""The physical floor of a training step: its operations and bytes over what the device does at best.

The larger of the two times is what no implementation of the network can beat by much.
"""

import math
import time

import keras
from keras import ops

from keras_resv2.models.flops import count_multiply_adds, weighted_layers

MATRIX, VECTOR = 4096, 2**26
REPEATS = 5
# So long the calls of one measurement take together: the milliseconds before the first and after the last are few.
SECONDS, MAX_CALLS = 0.1, 10_000


def roofline(model, batch_size, dtype):
    """Least time of a step, from the device's own best rates, measured here.

    Args:
        model: a functional `keras.Model` with a fixed input size.
        batch_size: images per step.
        dtype: of the activations: "float32", "bfloat16" or "float16".

    Returns:
        Dictionary: operations and bytes of a step, operations_per_second (a large matrix product),
        bytes_per_second (a large copy, read and written), seconds (the larger of the two quotients).
    """
    counts = {"operations": count_operations(model) * batch_size, "bytes": count_bytes(model, dtype) * batch_size}
    rates = {"operations_per_second": _matrix_rate(dtype), "bytes_per_second": _copy_rate()}
    seconds = max(n / rate for n, rate in zip(counts.values(), rates.values(), strict=True))
    return {**counts, **rates, "seconds": seconds}


def count_operations(model):
    """Floating-point operations of training on one image: three products per layer, two operations each.

    The products are the layer's own, and the gradients of its input and of its weights.
    """
    return 6 * count_multiply_adds(model)


def count_bytes(model, dtype):
    """Fewest bytes of activations that training on one image moves: all but convolutions counts as fused.

    Each of the three products of a layer reads or writes its input, or the gradient of it, and its
    output, or the gradient of that. Weights are left out: a batch shares them.
    """
    moved = sum(
        count * math.prod(tensor.shape[1:])
        for layer, count in weighted_layers(model)
        for tensor in (layer.input, layer.output)
    )
    return 3 * moved * (4 if dtype == "float32" else 2)


def _matrix_rate(dtype):
    """Operations per second of a product of two square matrices."""
    # Of this scale the products stay of the size of their factors, however many there are.
    a = ops.cast(keras.random.normal((MATRIX, MATRIX), stddev=MATRIX**-0.5), dtype)
    product = _compiled(ops.matmul)
    return 2 * MATRIX**3 / seconds_per_call(lambda x: product(a, x), a, _wait)


def _copy_rate():
    """Bytes per second of a copy, counting those read and those written."""
    return 2 * 4 * VECTOR / seconds_per_call(_compiled(ops.negative), keras.random.normal((VECTOR,)), _wait)


def seconds_per_call(function, x, wait, clock=time.perf_counter):
    """Time that the device takes for a function, without what the host takes to start it and to wait for it.

    So many calls are started one after another that they take `SECONDS` together, each on the result of the
    one before: the host is ahead of the device, which it waits for once.

    Args:
        function: from an array to one of the same shape; it may return before the device is done.
        x: the first array.
        wait: function of an array, which returns when it is computed.
        clock: function that returns the time in seconds.

    Returns:
        Seconds, the least of several measurements.

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
    """`function` of arrays, as one program where the backend can do so: starting it costs less then."""
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
