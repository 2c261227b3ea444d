"""The physical floor of a training step: its operations and bytes over what the device does at best.

The larger of the two times is what no implementation of the network can beat by much.
"""

import math
import time

import keras
from keras import ops

from keras_resv2.complexity import count_multiply_adds, weighted_layers

MATRIX, VECTOR = 4096, 2**26
REPEATS = 5


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
    a = ops.cast(keras.random.normal((MATRIX, MATRIX)), dtype)
    return 2 * MATRIX**3 / _best_time(lambda: ops.matmul(a, a))


def _copy_rate():
    """Bytes per second of a copy, counting those read and those written."""
    a = keras.random.normal((VECTOR,))
    return 2 * 4 * VECTOR / _best_time(lambda: ops.negative(a))


def _best_time(function):
    times = []
    for _ in range(REPEATS + 1):  # the first compiles
        started = time.perf_counter()
        float(ops.cast(ops.ravel(function())[0], "float32"))  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times[1:])
