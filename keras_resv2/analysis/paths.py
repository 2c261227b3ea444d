"""The network as a collection of paths: Veit et al. 2016 (arXiv 1605.06431), sections 3 and 5.

Multiplied out, n units are 2^n paths, one for each choice of going through a unit's branch or its shortcut;
a path's length is the number of its branches. The gradient is the sum over all paths of what comes along each.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_resv2.analysis.dissection import dissect
from keras_resv2.analysis.trace import Trace

COVERED = 0.95


def paths_by_length(units):
    """Number of paths of each length.

    Args:
        units: of the network.

    Returns:
        List of whole numbers: binomial coefficients, for lengths 0 to `units`.

    Example:

    >>> paths_by_length(3)
    [1, 3, 3, 1]
    """
    if units < 1:
        raise ValueError(f"units={units} must be at least 1.")
    return [math.comb(units, k) for k in range(units + 1)]


def share_left(units, deleted):
    """Share of the paths that deleting some units leaves: half for each of them.

    Example:

    >>> share_left(54, 1), share_left(54, 10)
    (0.5, 0.0009765625)
    """
    if not 0 <= deleted <= units:
        raise ValueError(f"deleted={deleted} must be from 0 to {units}, the number of units.")
    return 0.5**deleted


@dataclasses.dataclass(frozen=True)
class PathGradients:
    """Gradients of single paths (Fig. 6).

    Attributes:
        network: its name.
        units: how many it has.
        lengths: of every sampled path.
        norms: of the loss's gradient by the pixels along it, root of the sum of squares.
        whole_norm: of the gradient along all paths together.
    """

    network: str
    units: int
    lengths: np.ndarray
    norms: np.ndarray
    whole_norm: float

    def by_length(self):
        """Distinct lengths, the mean norm at each, and their product with the number of paths.

        Returns:
            ``(lengths, means, totals)``: arrays.
        """
        lengths = np.unique(self.lengths)
        means = np.array([self.norms[self.lengths == k].mean() for k in lengths])
        counts = np.array([float(math.comb(self.units, int(k))) for k in lengths])
        return lengths, means, counts * means

    def decay(self):
        """Factor by which one more unit shrinks the gradient: a straight line through the logarithms.

        Returns:
            The factor, below 1 where longer paths carry less.

        Raises:
            ValueError: fewer than two lengths have a gradient.
        """
        lengths, means, _ = self.by_length()
        usable = means > 0
        if usable.sum() < 2:
            raise ValueError("a decay needs paths of at least two lengths with a gradient.")
        slope, _ = np.polyfit(lengths[usable], np.log(means[usable]), 1)
        return float(np.exp(slope))

    def effective_range(self, covered=COVERED):
        """The fewest neighbouring lengths that have most of the gradient.

        Lengths that were not sampled count by straight lines between the logarithms of their neighbours.

        Args:
            covered: share of the summed magnitudes, above 0 and at most 1.

        Returns:
            ``(shortest, longest, share of all paths)``.
        """
        if not 0 < covered <= 1:
            raise ValueError(f"covered={covered} must be above 0 and at most 1.")
        lengths, means, _ = self.by_length()
        usable = means > 0
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


def path_gradients(model, images, labels, lengths=None, samples=10, seed=0, training=False, progress=None):
    """Measures the gradient that comes along single random paths (section 5).

    The batch goes forward through the whole network. On the way back k random units let the gradient
    through their branch alone, the others through their shortcut alone.

    Args:
        model: a network as `keras_resv2.analysis.dissect` takes it, of units with shortcuts.
        images: ``(n, height, width, 3)``, raw pixels: one batch.
        labels: ``(n,)``, class numbers.
        lengths: of paths; None for 0 to the number of units.
        samples: paths of each length.
        seed: of the choice of units.
        training: as `keras_resv2.analysis.propagate` takes it.
        progress: function ``(done, of)`` that is told about paths; None for silence.

    Returns:
        `PathGradients`.

    Raises:
        ValueError: the model has no residual units, or plain ones; a length is not there; images and labels
            do not go together.
    """
    parts = dissect(model)
    count = len(parts.units)
    lengths = list(range(count + 1)) if lengths is None else [int(k) for k in lengths]
    if not lengths or min(lengths) < 0 or max(lengths) > count:
        raise ValueError(f"lengths={lengths} must be from 0 to {count}, the units of {parts.name}.")
    if samples < 1:
        raise ValueError(f"samples={samples} must be at least 1.")
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
    """The gradient along any path, after one forward pass.

    Args:
        parts: `keras_resv2.analysis.dissection.Dissection`.
        images, labels, training: as `path_gradients` takes them.

    Raises:
        ValueError: a unit has no shortcut; images and labels do not go together.

    Example: all 2^n paths together are the gradient.

    >>> import keras_resv2
    >>> pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    >>> tracer = PathTracer(dissect(keras_resv2.ResNet(8)), pixels, np.array([3, 5]))
    >>> tracer.gradient({0, 2}).shape == (2, 32, 32, 3)
    True
    """

    def __init__(self, parts, images, labels, training=False):
        self._parts, self._training = parts, training
        self._trace = Trace(parts, images, labels, training)

    def gradient(self, path):
        """Gradient of the loss by the pixels along one path.

        Args:
            path: positions of the units that are passed through their branch; None for all paths together.

        Returns:
            Array ``(n, height, width, 3)``.
        """
        trace, training = self._trace, self._training
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
