"""The network as a collection of paths: Veit et al. 2016 (arXiv 1605.06431), sections 3 and 5.

Unraveled, n units are 2^n paths, one for each choice between the branch and the shortcut of each unit; the length of a
path is its number of branches. The gradient is the sum of the gradients along all paths.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np

from keras_resv2.analysis.dissection import Dissection, dissect
from keras_resv2.analysis.trace import Trace
from keras_resv2.argument_checks import check_count, whole_numbers

COVERED = 0.95


def paths_by_length(units: int) -> list[int]:
    """Returns the number of paths of each length.

    Args:
        units: number of units of the network.

    Returns:
        List of integers: binomial coefficients, for lengths 0 to `units`.

    Example:

    >>> paths_by_length(3)
    [1, 3, 3, 1]
    """
    check_count("units", units)
    return [math.comb(units, k) for k in range(units + 1)]


def share_left(units: int, deleted: int) -> float:
    """Returns the fraction of paths that remain after deleting units: each deletion halves it.

    Args:
        units: number of units of the network.
        deleted: number of deleted units.

    Raises:
        ValueError: if `units` is not a positive whole number, or `deleted` not a whole number from 0 to `units`.

    Example:

    >>> share_left(54, 1), share_left(54, 10)
    (0.5, 0.0009765625)
    """
    check_count("units", units)
    if deleted != int(deleted) or not 0 <= deleted <= units:
        raise ValueError(f"deleted={deleted} must be from 0 to {units}, the number of units.")
    return 0.5**deleted


@dataclasses.dataclass(frozen=True)
class PathGradients:
    """Gradients of single paths (Fig. 6).

    Attributes:
        network: name of the network.
        units: number of units.
        lengths: length of every sampled path.
        norms: norm (root of the sum of squares) of the loss's gradient with respect to the pixels along every path.
        whole_norm: norm of the gradient along all paths together.
    """

    network: str
    units: int
    lengths: np.ndarray
    norms: np.ndarray
    whole_norm: float

    def by_length(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the distinct lengths, the mean norm of each, and its product with the number of paths.

        Returns:
            ``(lengths, means, totals)``: arrays.
        """
        lengths = np.unique(self.lengths)
        means = np.array([self.norms[self.lengths == k].mean() for k in lengths])
        counts = np.array([float(math.comb(self.units, int(k))) for k in lengths])
        return lengths, means, counts * means

    def decay(self) -> float:
        """Returns the factor by which each unit shrinks the gradient, from a linear fit of the logarithms.

        Returns:
            The factor, below 1 if longer paths carry smaller gradients.

        Raises:
            ValueError: if fewer than two lengths have a gradient.
        """
        lengths, means, _ = self.by_length()
        usable = means > 0
        if usable.sum() < 2:
            raise ValueError(
                "computing the decay needs paths of at least two lengths with a gradient: increase samples, or pass "
                "more lengths to path_gradients."
            )
        slope, _ = np.polyfit(lengths[usable], np.log(means[usable]), 1)
        return float(np.exp(slope))

    def effective_range(self, covered: float = COVERED) -> tuple[int, int, float]:
        """Finds the shortest range of lengths that contributes most of the gradient.

        Lengths that were not sampled are interpolated linearly between the logarithms of their neighbors.

        Args:
            covered: fraction of the sum of magnitudes, above 0 and at most 1.

        Returns:
            ``(shortest, longest, fraction of all paths)``.

        Raises:
            ValueError: if no path has a gradient.
        """
        if not 0 < covered <= 1:
            raise ValueError(f"covered={covered} must be above 0 and at most 1.")
        lengths, means, _ = self.by_length()
        usable = means > 0
        if not usable.any():
            raise ValueError(
                "the range of lengths needs paths with a gradient: increase samples, or pass more lengths to "
                "path_gradients."
            )
        every = np.arange(lengths[usable].min(), lengths[usable].max() + 1)
        logs = np.interp(every, lengths[usable], np.log(means[usable]))
        counts = np.array([_log_comb(self.units, int(k)) for k in every])
        totals = np.exp(counts + logs - (counts + logs).max())
        below = np.concatenate([[0.0], np.cumsum(totals)]) / totals.sum()
        reach = below[None, 1:] - below[:-1, None] >= covered - 1e-12  # [a, b]: of lengths a to b
        first, last = np.nonzero(np.triu(reach))
        a, b = min(zip(first, last, strict=True), key=lambda span: span[1] - span[0])
        share = sum(math.comb(self.units, int(k)) for k in every[a : b + 1]) / 2**self.units
        return int(every[a]), int(every[b]), share


def _log_comb(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def path_gradients(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    lengths: Sequence[int] | int | None = None,
    samples: int = 10,
    seed: int = 0,
    training: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PathGradients:
    """Measures the gradient along single random paths (section 5).

    The forward pass uses the whole network. In the backward pass, k random units propagate the gradient only through
    their branch, the others only through their shortcut.

    Args:
        model: a network supported by `keras_resv2.analysis.dissect`, whose units have shortcuts.
        images: ``(n, height, width, 3)``, raw pixels: one batch.
        labels: ``(n,)``, class indices.
        lengths: lengths of paths, or one; None for 0 to the number of units.
        samples: number of paths of each length.
        seed: random seed.
        training: see `keras_resv2.analysis.propagate`.
        progress: callback ``(done, total)`` with numbers of paths, or None.

    Returns:
        `PathGradients`.

    Raises:
        ValueError: if the model has no residual units, or has units without shortcut; computes in float16, or is folded
            and `training` is True; a length is not possible; or images and labels do not match each other or the
            network.
    """
    parts = dissect(model)
    count = len(parts.units)
    lengths = list(range(count + 1)) if lengths is None else whole_numbers("lengths", lengths)
    if not lengths or min(lengths) < 0 or max(lengths) > count:
        raise ValueError(f"lengths={lengths} must be from 0 to {count}, the number of units of {parts.name}.")
    check_count("samples", samples)
    rng = np.random.default_rng(seed)
    paths = [frozenset(rng.choice(count, k, replace=False).tolist()) for k in lengths for _ in range(samples)]
    tracer = PathTracer(parts, images, labels, training)
    norms = []
    for path in paths:
        norms.append(_norm(tracer.gradient(path)))
        if progress:
            progress(len(norms), len(paths))
    return PathGradients(
        parts.name, count, np.array([len(path) for path in paths]), np.array(norms), _norm(tracer.gradient(None))
    )


class PathTracer:
    """Computes the gradient along any path after a single forward pass.

    Args:
        parts: `keras_resv2.analysis.dissection.Dissection`.
        images, labels, training: see `path_gradients`.

    Raises:
        ValueError: see `path_gradients`.

    Example: the gradients of all 2^n paths sum to the gradient.

    >>> import keras_resv2
    >>> pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    >>> tracer = PathTracer(dissect(keras_resv2.ResNet(8)), pixels, np.array([3, 5]))
    >>> tracer.gradient({0, 2}).shape == (2, 32, 32, 3)
    True
    """

    def __init__(self, parts: Dissection, images: Any, labels: Any, training: bool = False):
        self._parts, self._training = parts, training
        self._trace = Trace(parts, images, labels, training)

    def gradient(self, path: Collection[int] | None) -> np.ndarray:
        """Computes the gradient of the loss with respect to the pixels along one path.

        Args:
            path: positions of the units that use their branch; None for all paths together.

        Returns:
            Array ``(n, height, width, 3)``.

        Raises:
            ValueError: if there is no unit at a position.
        """
        trace, training = self._trace, self._training
        last = len(self._parts.units) - 1
        if path is not None and not set(path) <= set(range(last + 1)):
            raise ValueError(f"path={path} must have positions of units, from 0 to {last}.")
        gradient = trace.gradient
        for i in reversed(range(len(self._parts.units))):
            unit, x = self._parts.units[i], trace.inputs[i]
            if unit.after is not None:
                gradient = unit.after.vjp(trace.totals[i], gradient, training)
            before, gradient = gradient, None
            if path is None or i in path:
                gradient = unit.branch.vjp(x, before, training)
            if path is None or i not in path:
                straight = before if unit.shortcut is None else unit.shortcut.vjp(x, before, training)
                gradient = straight if gradient is None else gradient + straight
        gradient = self._parts.stem.vjp(trace.pixels, gradient, training)
        return keras.ops.convert_to_numpy(keras.ops.cast(gradient, "float32"))


def _norm(array):
    return float(np.sqrt(np.square(array, dtype="float64").sum()))
