"""Weights of networks that compute otherwise, changed so that ours give the same outputs, exactly."""

import re

import numpy as np

EPSILON = 1e-5  # of batch normalisation here, and PyTorch's default
ZERO_CHANNELS = ("both_sides", "after")


def with_epsilon(weights, epsilon):
    """Weights for our epsilon from those of a network that adds another one to its variances.

    ``variance + epsilon`` stays what it is. Where the new variance would be negative it is 0, and the difference
    goes into the factor.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array.
        epsilon: of the network's batch normalisation.

    Example:

    >>> float(with_epsilon({"stem_bn/moving_variance": np.ones(1)}, 1e-3)["stem_bn/moving_variance"][0].round(6))
    1.00099
    """
    if epsilon == EPSILON:
        return weights
    changed = dict(weights)
    for name in [name for name in weights if name.endswith("/moving_variance")]:
        total = weights[name].astype("float64") + epsilon
        changed[name] = np.maximum(total - EPSILON, 0)
        gamma = name.replace("moving_variance", "gamma")
        if gamma in weights:
            changed[gamma] = weights[gamma] * np.sqrt((changed[name] + EPSILON) / total)
    return changed


def with_identity_batch_norms(weights, shapes):
    """Weights with the batch normalisations that ours have and theirs do not, as ones that change nothing.

    The bias of the convolution before becomes the offset.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array, those of biases too.
        shapes: of our weights, by name.

    Example:

    >>> shapes = {f"a_bn/{name}": (1,) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    >>> with_identity_batch_norms({"a_conv/bias": np.array([3.0])}, shapes)["a_bn/beta"]
    array([3.])
    """
    usual = {"gamma": np.sqrt(1 + EPSILON), "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    made = {}
    for name, shape in shapes.items():
        layer, variable = name.split("/")
        bias = weights.get(f"{layer.removesuffix('bn')}conv/bias") if variable == "beta" else None
        if name in weights:
            made[name] = weights[name]
        else:
            made[name] = np.full(shape, usual[variable]) if bias is None else bias
    return made


def with_zeros_on_both_sides(weights):
    """Weights for option A with its zeros on both sides, from those of a network that has all of them after.

    The channels of each stage's output are put in another order: those that a shortcut brings lie in the middle.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array; of a network with projection "A".

    Example:

    >>> _order(np.array([0, 1]), 4).tolist()
    [2, 0, 1, 3]
    """
    orders, stages = {}, sorted({int(n[5:].split("_")[0]) for n in weights if n.startswith("stage")})
    order = np.arange(weights["stem_conv/kernel"].shape[-1])
    for stage in stages:
        last = max((n for n in weights if re.match(rf"stage{stage}_unit1_conv\d/kernel", n)), key=str)
        order = orders[stage] = _order(order, weights[last].shape[-1])
    changed = {}
    for name, array in weights.items():
        reads, makes = _channels(name, weights)
        if reads in orders:
            array = array[..., orders[reads], :]
        changed[name] = array[..., orders[makes]] if makes in orders else array
    return changed


def _order(before, channels):
    """From each channel of ours to theirs, of a stage whose shortcut brings channels in the order `before`."""
    first = (channels - len(before)) // 2
    order = np.full(channels, -1)
    order[first : first + len(before)] = before
    order[order < 0] = np.arange(len(before), channels)
    return order


def _channels(name, weights):
    """The stages in whose order a weight's inputs and outputs lie: between a unit's convolutions, None."""
    layer, variable = name.split("/")
    count = len({n.split("_")[0] for n in weights if n.startswith("stage")})
    if layer.startswith("head"):
        reads = makes = count
        return (reads if variable == "kernel" else None, None) if layer == "head_dense" else (None, makes)
    if not layer.startswith("stage"):
        return None, None
    stage, unit, rest = int(layer[5:].split("_")[0]), int(layer.split("_")[1][4:]), layer.split("_", 2)[2]
    before = stage - 1 if unit == 1 else stage
    last = max(int(n.split("_conv")[1][0]) for n in weights if re.match(rf"stage{stage}_unit{unit}_conv\d/", n))
    if rest == "preact_bn":
        return None, before
    number = int(rest[-1])
    reads = before if rest == "conv1" and variable == "kernel" else None
    return reads, stage if number == last else None
