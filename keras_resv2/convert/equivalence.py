"""Exact conversions of weights between networks that compute the same function in different ways."""

import re

import numpy as np

EPSILON = 1e-5  # of batch normalization here, and PyTorch's default
ZERO_CHANNELS = ("both_sides", "after")


def with_epsilon(weights, epsilon):
    """Converts weights trained with another epsilon of batch normalization.

    ``variance + epsilon`` stays the same. Where the new variance would be negative it becomes 0, and gamma is scaled
    instead.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array.
        epsilon: epsilon of the network's batch normalization; 0 in torchvision's detectors.

    Raises:
        ValueError: if a variance and `epsilon` are 0, so that the network's outputs are not finite.

    Example:

    >>> float(with_epsilon({"stem_bn/moving_variance": np.ones(1)}, 1e-3)["stem_bn/moving_variance"][0].round(6))
    1.00099
    """
    if epsilon == EPSILON:
        return weights
    changed = dict(weights)
    for name in [name for name in weights if name.endswith("/moving_variance")]:
        total = weights[name].astype("float64") + epsilon
        if not (total > 0).all():
            raise ValueError(f"{name} has zeros, and epsilon={epsilon} adds nothing: the outputs would be infinite.")
        changed[name] = np.maximum(total - EPSILON, 0)
        gamma = name.replace("moving_variance", "gamma")
        if gamma in weights:
            changed[gamma] = weights[gamma] * np.sqrt((changed[name] + EPSILON) / total)
    return changed


def with_identity_batch_norms(weights, shapes):
    """Adds identity batch normalization where our network has one and the other network does not.

    The bias of the preceding convolution becomes beta.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array, including biases.
        shapes: shapes of our weights, by name.

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
    """Converts weights for option A with all zero channels after the others to zeros on both sides.

    The output channels of each stage are permuted so that those of the shortcut lie in the middle.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array, for a network with projection "A".

    Example:

    >>> _order(np.array([0, 1]), 4).tolist()
    [2, 0, 1, 3]
    """
    changed, orders = {}, _orders(weights)
    for name, array in weights.items():
        reads, makes = _channels(name, weights)
        if reads in orders:
            array = array[..., orders[reads], :]
        changed[name] = array[..., orders[makes]] if makes in orders else array
    return changed


def feature_order(weights):
    """Returns the channel of the other network's last feature maps for each channel of ours.

    Args:
        weights: see `with_zeros_on_both_sides`, before or after it.
    """
    orders = _orders(weights)
    return orders[max(orders)]


def _orders(weights):
    """Returns the order of the channels of each stage, see `_order`."""
    orders, stages = {}, sorted({int(n[5:].split("_")[0]) for n in weights if n.startswith("stage")})
    order = np.arange(weights["stem_conv/kernel"].shape[-1])
    for stage in stages:
        last = max((n for n in weights if re.match(rf"stage{stage}_unit1_conv\d/kernel", n)), key=str)
        order = orders[stage] = _order(order, weights[last].shape[-1])
    return orders


def _order(before, channels):
    """Returns their channel for each of ours, in a stage whose shortcut has channels in the order `before`."""
    first = (channels - len(before)) // 2
    order = np.full(channels, -1)
    order[first : first + len(before)] = before
    order[order < 0] = np.arange(len(before), channels)
    return order


def _channels(name, weights):
    """Returns the stages whose order the inputs and outputs of a weight follow; None inside a branch."""
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


def batch_norm_of(name):
    """Returns the batch normalization that may follow the convolution of a weight.

    Example:

    >>> batch_norm_of("stage1_unit2_conv1/kernel"), batch_norm_of("stem_conv/bias")
    ('stage1_unit2_bn1', 'stem_bn')
    """
    return re.sub(r"conv(\d?)/\w+$", r"bn\1", name)
