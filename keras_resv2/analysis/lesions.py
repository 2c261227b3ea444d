"""Lesion studies: the error of a trained network without some units, or with units in another order.

The studies of Veit et al. 2016 (arXiv 1605.06431), sections 4.1 to 4.3. Nothing is rebuilt or recompiled per lesion. A
lesion is a list of steps, and a common prefix of lesions is computed only once: deleting each of n units in turn costs
as much as n/2 networks.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_resv2.analysis.dissection import dissect
from keras_resv2.analysis.inputs import check_images
from keras_resv2.argument_checks import check_count, whole_numbers
from keras_resv2.evaluation import filled_up, highest_class, slices
from keras_resv2.files import atomic_write

MOST_IMAGES, MOST_BYTES = 250, 2**29  # of a batch, and of the outputs of all units for it


@dataclasses.dataclass(frozen=True)
class Deletions:
    """Errors without single units (Fig. 3).

    Attributes:
        network: name of the network.
        images: number of test images.
        intact_error: error of the intact network, in percent.
        units: names of the units.
        errors: error without each unit, in percent; NaN for a unit that cannot be deleted.
        changes_size: whether each unit changes the size of the feature maps; its shortcut, which remains, does too.
        units_run, units_run_plainly: units evaluated per image by this study, and by running one network per lesion.
    """

    network: str
    images: int
    intact_error: float
    units: list
    errors: np.ndarray
    changes_size: np.ndarray
    units_run: int
    units_run_plainly: int


@dataclasses.dataclass(frozen=True)
class RandomDeletions:
    """Errors without k random units (Fig. 5 a).

    Attributes:
        network, images, intact_error, units_run, units_run_plainly: see `Deletions`.
        deleted: k for every draw.
        errors: error of every draw, in percent.
        units: names of the deleted units for every draw.
    """

    network: str
    images: int
    intact_error: float
    deleted: np.ndarray
    errors: np.ndarray
    units: list
    units_run: int
    units_run_plainly: int

    def quartiles(self) -> np.ndarray:
        """Returns rows ``(k, lower quartile, median, upper quartile)`` of the error in percent."""
        counts = sorted(set(self.deleted.tolist()))
        return np.array([[k, *np.percentile(self.errors[self.deleted == k], [25, 50, 75])] for k in counts])


@dataclasses.dataclass(frozen=True)
class Reorderings:
    """Errors with pairs of units of a stage swapped (Fig. 5 b).

    Attributes:
        network, images, intact_error, units_run, units_run_plainly: see `Deletions`.
        swaps: number of consecutive swaps for every draw.
        taus: Kendall's rank correlation between the order of the units and the original order.
        errors: error of every draw, in percent.
        orders: positions of the units in the order in which they were run.
    """

    network: str
    images: int
    intact_error: float
    swaps: np.ndarray
    taus: np.ndarray
    errors: np.ndarray
    orders: list
    units_run: int
    units_run_plainly: int


def delete_each(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int | None = None,
    resume: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Deletions:
    """Deletes one unit at a time: only h remains of ``y = h(x) + F(x)`` (section 4.1, Fig. 3).

    If a unit changes the size of the feature maps, h does too (subsampling and zero channels, or a projection), as in
    the paper. In a plain network (``shortcut="none"``) a deleted unit passes x on; if it changes the size, x does not
    fit and the error is NaN.

    Args:
        model: a network supported by `keras_resv2.analysis.dissect`, with class scores as output.
        images: ``(n, height, width, 3)``, raw pixels.
        labels: ``(n,)``, class indices.
        batch_size: images per batch, for which the outputs of all units are in memory; None for 250, or fewer for large
            images (512 MiB).
        resume: file that stores the counts so far, from which an interrupted study of the same network, images and
            lesions resumes; None to store nothing.
        progress: callback ``(done, total)`` with numbers of images, or None.

    Returns:
        `Deletions`.

    Raises:
        ValueError: if the model has no residual units, images and labels do not match, or `resume` is from another
            study.

    Example:

    >>> study = delete_each(from_pretrained("resnet32-cifar10"), images, labels)  # doctest: +SKIP
    """
    parts = dissect(model)
    possible = [i for i, unit in enumerate(parts.units) if unit.deletable]
    plans = [_plan(parts, range(len(parts.units)), {i}) for i in possible]
    intact, wrong, costs = _run(parts, plans, images, labels, batch_size, resume, progress)
    errors = np.full(len(parts.units), np.nan)
    errors[possible] = wrong
    changes = np.array([unit.changes_size for unit in parts.units])
    return Deletions(parts.name, len(labels), intact, [unit.name for unit in parts.units], errors, changes, *costs)


def delete_random(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    counts: Sequence[int] | int | None = None,
    draws: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
    resume: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RandomDeletions:
    """Deletes k random units at a time (section 4.2, Fig. 5 a).

    Args:
        model, images, labels, batch_size, resume, progress: see `delete_each`.
        counts: numbers k of units to delete, or one; None for 1 to all units.
        draws: number of random choices for each k.
        seed: random seed.

    Returns:
        `RandomDeletions`.

    Raises:
        ValueError: as in `delete_each`, or if a count is below 1 or above the number of units that can be deleted.

    Example:

    >>> study = delete_random(model, images, labels, counts=[1, 3, 6], draws=5)  # doctest: +SKIP
    >>> study.quartiles()[:, 0].tolist()  # doctest: +SKIP
    [1.0, 3.0, 6.0]
    """
    parts = dissect(model)
    possible = [i for i, unit in enumerate(parts.units) if unit.deletable]
    counts = list(range(1, len(possible) + 1)) if counts is None else whole_numbers("counts", counts)
    if not counts or min(counts) < 1 or max(counts) > len(possible):
        raise ValueError(f"counts={counts} must be from 1 to {len(possible)}, the number of units that can be deleted.")
    check_count("draws", draws)
    rng = np.random.default_rng(seed)
    chosen = [sorted(rng.choice(possible, k, replace=False).tolist()) for k in counts for _ in range(draws)]
    plans = [_plan(parts, range(len(parts.units)), set(units)) for units in chosen]
    intact, errors, costs = _run(parts, plans, images, labels, batch_size, resume, progress)
    names = [[parts.units[i].name for i in units] for units in chosen]
    deleted = np.array([len(units) for units in chosen])
    return RandomDeletions(parts.name, len(labels), intact, deleted, errors, names, *costs)


def reorder(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    swaps: Sequence[int] | int | None = None,
    draws: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
    resume: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reorderings:
    """Swaps random pairs of units of the same stage that do not change the size (section 4.3, Fig. 5 b).

    Args:
        model, images, labels, batch_size, resume, progress: see `delete_each`.
        swaps: numbers of consecutive swaps, or one; None for 1 to the number of units.
        draws: number of random orders for each number of swaps.
        seed: random seed.

    Returns:
        `Reorderings`.

    Raises:
        ValueError: as in `delete_each`, or if no stage has two units that can be swapped.

    Example:

    >>> study = reorder(model, images, labels, swaps=[1, 3], draws=5)  # doctest: +SKIP
    >>> study.taus.shape  # doctest: +SKIP
    (10,)
    """
    parts = dissect(model)
    stages = [[i for i in stage if not parts.units[i].changes_size] for stage in parts.stages().values()]
    pairs = [pair for stage in stages for pair in itertools.combinations(stage, 2)]
    if not pairs:
        raise ValueError(f"{parts.name} has no two units of the same stage and shape: there is nothing to swap.")
    swaps = list(range(1, len(parts.units) + 1)) if swaps is None else whole_numbers("swaps", swaps)
    if not swaps or min(swaps) < 1:
        raise ValueError(f"swaps={swaps} must be at least 1.")
    check_count("draws", draws)
    rng = np.random.default_rng(seed)
    orders = []
    for number in np.repeat(swaps, draws):
        order = list(range(len(parts.units)))
        for a, b in rng.choice(pairs, number):
            order[a], order[b] = order[b], order[a]
        orders.append(order)
    plans = [_plan(parts, order, set()) for order in orders]
    intact, errors, costs = _run(parts, plans, images, labels, batch_size, resume, progress)
    taus = np.array([kendall_tau(order) for order in orders])
    return Reorderings(parts.name, len(labels), intact, np.repeat(swaps, draws), taus, errors, orders, *costs)


def kendall_tau(order: Sequence[int] | np.ndarray) -> float:
    """Computes Kendall's rank correlation of a permutation with the order 0, 1, 2, ...

    Args:
        order: permutation of 0 to n - 1, n at least 2.

    Returns:
        From -1 (reversed) to 1 (unchanged).

    Example:

    >>> kendall_tau([0, 1, 2]), kendall_tau([2, 1, 0])
    (1.0, -1.0)
    """
    positions = np.asarray(order)
    later = np.sign(positions[None, :] - positions[:, None])[np.triu_indices(len(positions), 1)]
    return float(later.mean())


def _plan(parts, order, deleted):
    """Returns the steps of a lesion: the position of a unit, or ~position for a deleted unit."""
    steps = []
    for i in order:
        unit = parts.units[i]
        if i not in deleted:
            steps.append(i)
        elif not (unit.plain or (unit.shortcut is None and unit.after is None)):
            steps.append(~i)
    return tuple(steps)


def _run(parts, plans, images, labels, batch_size, resume, progress):
    """Returns the errors of the intact network and all plans in percent, and the units run with and without sharing."""
    images, labels = check_images(parts, images, labels)
    batch_size = _default_batch_size(parts, images) if batch_size is None else check_count("batch_size", batch_size)
    intact = tuple(range(len(parts.units)))
    distinct = sorted({intact, *plans})
    record = _Record(resume, parts, distinct, images, labels)
    if progress:
        progress(record.done, len(labels))
    size = min(batch_size, len(labels) - record.done)
    for batch, truth in slices(images[record.done :], labels[record.done :], batch_size):
        scores = _scores(parts, distinct, filled_up(batch, size))
        wrong = [int((highest_class(s[: len(truth)]) != truth).sum()) for s in scores]
        record.add(record.done + len(truth), wrong)
        if progress:
            progress(record.done, len(labels))
    errors = dict(zip(distinct, 100 * record.wrong / len(labels), strict=True))
    run = sum(map(len, distinct)) - sum(_shared(a, b) for a, b in itertools.pairwise(distinct))
    plainly = sum(len(plan) for plan in (intact, *plans))
    return float(errors[intact]), np.array([errors[plan] for plan in plans]), (run, plainly)


def _default_batch_size(parts, images):
    """Returns the number of images whose unit outputs fit into `MOST_BYTES`; unknown sides are those of the images."""
    numbers = sum(
        math.prod(side or longest for side, longest in zip(unit.output_shape, images.shape[1:], strict=True))
        for unit in parts.units
    )
    return int(np.clip(MOST_BYTES // (4 * numbers), 1, MOST_IMAGES))


def _scores(parts, plans, batch):
    """Yields class scores of each plan. As plans are sorted, the prefix shared with the last one is on the stack."""
    stack = [parts.stem(keras.ops.cast(batch, parts.stem.program.input_dtype))]
    before = ()
    for plan in plans:
        shared = _shared(before, plan)
        del stack[shared + 1 :]
        for step in plan[shared:]:
            unit = parts.units[step if step >= 0 else ~step]
            stack.append(unit(stack[-1]) if step >= 0 else unit.without_branch(stack[-1]))
        before = plan
        yield keras.ops.convert_to_numpy(keras.ops.cast(parts.head(stack[-1]), "float32"))


def _shared(a, b):
    """Returns the length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class _Record:
    """The mistakes counted so far, stored in a file if one is given."""

    def __init__(self, path, parts, plans, images, labels):
        self._path = None if path is None else pathlib.Path(path)
        self.done, self.wrong = 0, np.zeros(len(plans), "int64")
        if self._path is None:
            return
        self._study = _fingerprint(parts, plans, images, labels)
        if self._path.exists():
            try:
                content = json.loads(self._path.read_text())
            except ValueError:  # including an invalid encoding
                content = None
            if not isinstance(content, dict) or content.get("study") != self._study:
                raise ValueError(
                    f"{path} is not from this study: the network, images or lesions differ. Delete the file, or use "
                    "another one (resume=) or another folder (--out)."
                )
            self.done, self.wrong = content["images"], np.array(content["wrong"])

    def add(self, done, wrong):
        self.done, self.wrong = done, self.wrong + wrong
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path) as partial:
                partial.write_text(json.dumps({"study": self._study, "images": done, "wrong": self.wrong.tolist()}))


def _fingerprint(parts, plans, images, labels):
    """Returns a SHA-256 of everything that the counts depend on."""
    digest = hashlib.sha256(json.dumps(plans).encode())
    every = [parts.stem, parts.head]
    for unit in parts.units:
        every += [part for part in (unit.shortcut, unit.branch, unit.after) if part]
        digest.update(json.dumps([unit.name, unit.shortcut is None, unit.after is None, unit.plain]).encode())
    digest.update("\n".join(part.structure for part in every).encode())
    weights = [keras.ops.convert_to_numpy(value) for part in every for value in part.values]
    # Integers among the values are the states of random generators, which inference does not use.
    for array in (images, labels, *(array for array in weights if array.dtype.kind not in "iu")):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
