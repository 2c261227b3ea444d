"""How signals and gradients propagate through a network: He et al. 2016 (arXiv 1603.05027), section 2.

In the forward pass, identity shortcuts make the output of a stage the sum of its input and all branches (eq. 4). In the
backward pass, the gradient has a term that flows directly through the shortcuts (eq. 5); shortcuts that scale their
input multiply this term by the product of their factors (eq. 8).
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_resv2.analysis.dissection import dissect
from keras_resv2.analysis.trace import Trace
from keras_resv2.models.graph import data_format_of

TOLERANCE = 1e-2  # of a shortcut's output: layers may compute in bfloat16


@dataclasses.dataclass(frozen=True)
class Propagation:
    """Statistics of a batch of images in every unit. Arrays have one value for each unit.

    Norms are root mean squares over all values of a tensor.

    Attributes:
        network: name of the network.
        units: names of the units.
        stages: stage of each unit.
        variance: variance of the unit's input over images and positions, averaged over channels.
        input_norm: norm of the unit's input x_l.
        shortcut_norm: norm of the shortcut's output h(x_l).
        branch_norm: norm of the branch's output F(x_l).
        residual: norm of ``x_L - (x_l + F(x_l) + ... + F(x_{L-1}))`` divided by that of x_L, the output of the stage's
            last unit that keeps the size (eq. 4). NaN if the unit changes the size or shares its activation with the
            shortcut.
        gradient_norm: norm of the loss's gradient at x_l.
        gradient_through_shortcut, gradient_through_branch: norms of its two terms.
        straight_norm: norm of the gradient that reaches x_l from the end of the network only through shortcuts, by
            automatic differentiation.
        predicted_norm: the same predicted by eq. 8: the product with the factors of the shortcuts, ignoring activations
            after the addition and treating gates as constants.
            Shortcuts that are not such a product (convolutions) count as they are.
        factor: product of the shortcuts' factors from this unit to the end of the stage, averaged over elements; NaN if
            the unit's shortcut is not such a product.
    """

    network: str
    units: list
    stages: np.ndarray
    variance: np.ndarray
    input_norm: np.ndarray
    shortcut_norm: np.ndarray
    branch_norm: np.ndarray
    residual: np.ndarray
    gradient_norm: np.ndarray
    gradient_through_shortcut: np.ndarray
    gradient_through_branch: np.ndarray
    straight_norm: np.ndarray
    predicted_norm: np.ndarray
    factor: np.ndarray

    def columns(self) -> dict[str, Any]:
        """Returns a dictionary from a column's name to its values, one for each unit."""
        return {key: value for key, value in vars(self).items() if key != "network"}


def propagate(model: keras.Model, images: np.ndarray, labels: np.ndarray, training: bool = False) -> Propagation:
    """Measures a batch in the forward pass through a network, and the gradient of its loss in the backward pass.

    Args:
        model: a network supported by `keras_resv2.analysis.dissect`, trained or new.
        images: ``(n, height, width, 3)``, raw pixels.
        labels: ``(n,)``, class indices; the loss is the mean cross-entropy.
        training: whether batch normalization uses batch statistics and dropout is active. Required for a new network,
            whose moving statistics are not yet meaningful.

    Returns:
        `Propagation`.

    Raises:
        ValueError: if the model has no residual units, or has units without shortcut; computes in float16, or is folded
            and `training` is True; or images and labels do not match each other or the network.

    Example:

    >>> import keras_resv2, numpy as np
    >>> pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3))
    >>> network = keras_resv2.ResNet(14, activation="full_preactivation")
    >>> bool(propagate(network, pixels, np.arange(4), training=True).residual[1] < 1e-5)
    True
    """
    parts = dissect(model)
    trace = Trace(parts, images, labels, training)
    channels_first = data_format_of(model) == "channels_first"
    columns = {**_forward(parts, trace, channels_first), **_backward(parts, trace, training)}
    stages = np.array([unit.stage for unit in parts.units])
    columns = {key: np.array(values, "float64") for key, values in columns.items()}
    return Propagation(network=parts.name, units=[unit.name for unit in parts.units], stages=stages, **columns)


def _forward(parts, trace, channels_first):
    return {
        "variance": [_variance(x, channels_first) for x in trace.inputs[:-1]],
        "input_norm": [_norm(x) for x in trace.inputs[:-1]],
        "shortcut_norm": [_norm(x) for x in trace.shortcuts],
        "branch_norm": [_norm(x) for x in trace.branches],
        "residual": _residuals(parts, trace),
    }


def _residuals(parts, trace):
    """Computes x_L minus all branches minus x_l, from the end of each stage to its beginning."""
    residuals = np.full(len(parts.units), np.nan)
    for positions in parts.stages().values():
        while positions and parts.units[positions[-1]].changes_size:  # with the next stage's stride in the last unit
            positions = positions[:-1]
        if not positions:
            continue
        end = trace.inputs[positions[-1] + 1]
        rest, size = end, _norm(end)
        for i in reversed(positions):
            if parts.units[i].changes_size or _shares_activation(parts.units[i]):
                break
            rest = rest - trace.branches[i]
            residuals[i] = _norm(rest - trace.inputs[i]) / size
    return residuals


def _shares_activation(unit):
    """Returns whether the shortcut reads the branch's first activation: the first unit of pre-activation networks."""
    return unit.shortcut is not None and f"{unit.name}_preact_relu" in unit.shortcut.layers


def _backward(parts, trace, training):
    count = len(parts.units)
    names = ("gradient_norm", "gradient_through_shortcut", "gradient_through_branch", "straight_norm")
    columns = {name: np.zeros(count) for name in (*names, "predicted_norm", "factor")}
    gradient = straight = predicted = trace.gradient
    for i in reversed(range(count)):
        unit, x, total = parts.units[i], trace.inputs[i], trace.totals[i]

        def back(cotangent, part, point):
            return cotangent if part is None else part.vjp(point, cotangent, training)

        before_addition = back(gradient, unit.after, total)
        through_shortcut = back(before_addition, unit.shortcut, x)
        through_branch = back(before_addition, unit.branch, x)
        gradient = through_shortcut + through_branch
        straight = back(back(straight, unit.after, total), unit.shortcut, x)
        step = _factor(unit, x, trace.shortcuts[i], training)
        if step is None:
            factor, product = np.nan, 1.0
            predicted = back(predicted, unit.shortcut, x)
        else:
            if i + 1 == count or parts.units[i + 1].stage != unit.stage:
                product = 1.0
            predicted, product = predicted * step, product * step
            factor = float(keras.ops.mean(keras.ops.cast(product, "float32")))
        values = (_norm(gradient), _norm(through_shortcut), _norm(through_branch), _norm(straight), _norm(predicted))
        for name, value in zip(columns, (*values, factor), strict=True):
            columns[name][i] = value
    return columns


def _factor(unit, x, output, training):
    """Returns the elementwise factor of the shortcut: a constant, 1 - g(x), or the dropout mask.

    Args:
        unit: `keras_resv2.analysis.dissection.Unit`.
        x, output: tensors, input and output of its shortcut.
        training: as in Keras layers.

    Returns:
        Tensor; None if the shortcut is not a product with such a factor, as projections are not.
    """
    if unit.changes_size or _shares_activation(unit):
        return None
    ones = keras.ops.ones_like(x)
    if unit.shortcut is None:
        return ones
    factor = unit.shortcut(ones, training) if unit.gate is None else unit.gate(x, training)
    return factor if _norm(factor * x - output) <= TOLERANCE * _norm(output) else None


def _norm(x):
    """Computes the norm in float64: squares of products of many factors underflow in float32."""
    array = keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")).astype("float64")
    return float(np.sqrt(np.mean(array * array)))


def _variance(x, channels_first):
    """Computes the variance over images and positions, averaged over channels."""
    channels = 1 if channels_first and len(x.shape) == 4 else len(x.shape) - 1
    axes = tuple(axis for axis in range(len(x.shape)) if axis != channels)
    return float(keras.ops.mean(keras.ops.var(keras.ops.cast(x, "float32"), axis=axes)))
