"""Estimates progress and remaining time of a run from the files in its directory."""

import dataclasses
import itertools
import json
import statistics

import numpy as np

from train.recipe import full_size_steps, image_sides
from train.run_files import (
    DIVERGED,
    HISTORY,
    RUN_FILE,
    WALL_SECONDS,
    WEIGHTS,
    newest_checkpoints,
    read_checkpoint_meta,
    read_history,
    read_record,
)

INTERVALS = 10  # speed is the median of this many, so that intervals with an evaluation or compilation do not matter
SPARE = 1.05  # evaluations of the test error are not included in the median
START_SECONDS = 10  # imports, data and network, before the clock of a run starts
# Recipe values that do not affect the time of a step.
TIMELESS = (
    "steps", "epochs", "schedule", "interpolate", "warmup_steps", "warmup_rate", "momentum", "nesterov", "weight_decay",
    "decay", "average_start", "average_decay", "label_smoothing", "temperature", "teacher_weight",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run, read from its directory.

    Attributes:
        step: number of completed steps that have been saved or recorded.
        resumable: step of the newest checkpoint; 0 without one.
        steps: number of steps of the whole run; None if it has not started.
        seconds: time taken so far.
        finished: whether the run is finished.
        diverged: step at which the loss became NaN or infinite; None if it has not.
        test_error: last measured test error in percent, or None.
        hardware: hardware that it ran on last, or None.
        seconds_per_step: of the largest images if their size changes; None if there is not enough data.
        compile_seconds: additional time of the first steps.
    """

    step: int = 0
    resumable: int = 0
    steps: int | None = None
    seconds: float = 0.0
    finished: bool = False
    diverged: int | None = None
    test_error: float | None = None
    hardware: str | None = None
    seconds_per_step: float | None = None
    compile_seconds: float = 0.0


def read_progress(run):
    """Reads the `Progress` of a run.

    Args:
        run: directory of the run, which need not exist.

    Raises:
        ValueError: if its run.json is damaged.
    """
    if not (run / RUN_FILE).exists():
        return Progress()
    record = read_record(run)
    meta = next(filter(None, map(read_checkpoint_meta, newest_checkpoints(run))), {})
    rows = _history(run) or meta.get("history", [])
    points = {(row["step"], row["seconds"]) for row in rows if "seconds" in row}
    if meta.get("seconds"):
        points.add((meta["step"], meta["seconds"]))
    points = sorted(points)
    values = record["settings"].get("recipe_values", {})
    steps = values.get("steps")
    try:
        sides = image_sides(values.get("image_size"), steps or 1)
        seconds_per_step, compile_seconds = speed([(full_size_steps(sides, step), seconds) for step, seconds in points])
    except (TypeError, ValueError):
        raise ValueError(f"{run / RUN_FILE} is damaged: its steps or image_size are not those of a recipe.") from None
    return Progress(
        step=int(points[-1][0]) if points else 0,
        resumable=meta.get("step", 0),
        steps=steps,
        seconds=points[-1][1] if points else 0.0,
        finished=WALL_SECONDS in record and (run / WEIGHTS).exists(),
        diverged=record.get(DIVERGED),
        test_error=next((row["test_error"] for row in reversed(rows) if "test_error" in row), None),
        hardware=(record.get("environments") or [{}])[-1].get("hardware"),
        seconds_per_step=seconds_per_step,
        compile_seconds=compile_seconds,
    )


def _history(run):
    try:
        return read_history(run / HISTORY)
    except (OSError, ValueError):
        return []


def speed(points):
    """Computes the time of a step, and the additional time of the first ones.

    Args:
        points: list of (steps done, seconds passed), in order.

    Returns:
        ``(seconds per step, seconds)``; ``(None, 0.0)`` for fewer than two points, because the time up to the first one
        includes compilation.

    Example:

    >>> speed([(10, 25.0), (20, 30.0), (30, 35.0)])
    (0.5, 20.0)
    """
    pairs = [(a, b) for a, b in itertools.pairwise(points) if b[0] > a[0] and b[1] > a[1]]
    if not pairs:
        return None, 0.0
    per_step = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs[-INTERVALS:])
    step, seconds = points[0]
    return per_step, max(0.0, seconds - step * per_step)


def speed_key(config):
    """Returns a key that is equal for runs whose steps take the same time.

    Args:
        config: `train.config.RunConfig`.
    """
    values = {name: value for name, value in dataclasses.asdict(config.values).items() if name not in TIMELESS}
    return json.dumps([config.model, config.arguments, config.forms, config.dataset, values], sort_keys=True)


class Speeds:
    """Known speeds of runs of each kind on this machine.

    Args:
        cores: dictionary from the hardware of a run, as in run.json, to its number of cores; speeds on other hardware
            are ignored.
    """

    def __init__(self, cores):
        self._cores = cores
        self._known = {}

    def add(self, config, progress):
        """Adds the speed of a run."""
        if progress.seconds_per_step and progress.hardware in self._cores:
            known = self._known.setdefault(speed_key(config), {})
            known[progress.hardware] = progress.seconds_per_step, progress.compile_seconds

    def seconds_left(self, config, progress, steps, hardware, running=False):
        """Estimates the remaining time of a run.

        If no similar run has been timed on as many cores, the time on the nearest number of cores is used: multiplied
        by the ratio of the numbers if it had more, and unchanged if it had fewer.

        Args:
            config: `train.config.RunConfig` of the run.
            progress: `Progress` of the run.
            steps: number of steps of the whole run; None if unknown.
            hardware: on which the run goes on, as in run.json.
            running: whether the run has started; otherwise the time to start is added.

        Returns:
            Seconds; None if no similar run has been timed yet.
        """
        found = dict(self._known.get(speed_key(config), {}))
        if progress.seconds_per_step and progress.hardware in self._cores:
            found[progress.hardware] = progress.seconds_per_step, progress.compile_seconds
        if steps is None or not found or hardware not in self._cores:
            return None
        wanted = self._cores[hardware]
        nearest = hardware if hardware in found else min(found, key=lambda other: abs(self._cores[other] - wanted))
        per_step, compiling = found[nearest]
        per_step *= max(1.0, self._cores[nearest] / wanted)
        start = 0 if running else START_SECONDS + compiling
        sides, done = image_sides(config.values.image_size, steps), progress.step if running else progress.resumable
        start += compiling * sum(first > done for first, _, _ in sides)  # every size is compiled
        return start + SPARE * per_step * (full_size_steps(sides, steps) - full_size_steps(sides, min(done, steps)))


def remaining_part(progress, steps):
    """Returns the remaining fraction of a run, from 0 to 1."""
    return float(np.clip(1 - progress.resumable / steps, 0, 1)) if steps else 1.0
