"""How far a run is, and how long it still takes: from the files in its directory."""

import dataclasses
import itertools
import json
import statistics

import numpy as np

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

INTERVALS = 10  # of so many the speed is the median: one with a measurement or a compilation in it does not count
SPARE = 1.05  # measurements of the test error are not in the median
START_SECONDS = 10  # imports, data and network, before the clock of a run starts
# Recipe values that change nothing about the time of a step.
TIMELESS = (
    "steps", "epochs", "schedule", "interpolate", "warmup_steps", "warmup_rate", "momentum", "nesterov", "weight_decay",
    "decay", "average_start", "average_decay", "label_smoothing", "temperature", "teacher_weight",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the directory of a run tells.

    Attributes:
        step: steps done, as far as they are saved or written down.
        resumable: step of the newest checkpoint; 0 without one.
        steps: of the whole run; None if it has not begun.
        seconds: it took so far.
        finished: whether it is done.
        diverged: step at which the loss was no longer a number; None if it is one.
        test_error: the last that was measured, percent; None.
        hardware: it ran on last; None.
        seconds_per_step: None where too little was run to tell.
        compile_seconds: what its first steps took longer than others.
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
    """The `Progress` of a run.

    Args:
        run: its directory, which need not exist.

    Raises:
        ValueError: its run.json is damaged.
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
    seconds_per_step, compile_seconds = speed(points)
    return Progress(
        step=int(points[-1][0]) if points else 0,
        resumable=meta.get("step", 0),
        steps=record["settings"].get("recipe_values", {}).get("steps"),
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
    """Time of a step, and what the first took longer.

    Args:
        points: list of (steps done, seconds passed), in order.

    Returns:
        ``(seconds per step, seconds)``; ``(None, 0.0)`` of fewer than two points: up to the first the
        program was compiled.

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
    """Equal for runs whose steps take equally long.

    Args:
        config: `train.config.RunConfig`.
    """
    values = {name: value for name, value in dataclasses.asdict(config.values).items() if name not in TIMELESS}
    return json.dumps([config.model, config.arguments, config.forms, config.dataset, values], sort_keys=True)


class Speeds:
    """How fast runs of each kind are on this machine, as far as that is known.

    Args:
        hardware: as run.json names what each run has; figures of other hardware do not count.
    """

    def __init__(self, hardware):
        self._hardware = hardware
        self._known = {}

    def add(self, config, progress):
        """Takes in how fast a run is or was."""
        if progress.seconds_per_step and progress.hardware == self._hardware:
            self._known[speed_key(config)] = progress.seconds_per_step, progress.compile_seconds

    def seconds_left(self, config, progress, steps, running=False):
        """How long a run still takes.

        Args:
            config: its `train.config.RunConfig`.
            progress: its `Progress`.
            steps: of the whole run; None if unknown.
            running: whether it is under way; else it must start first.

        Returns:
            Seconds; None where nothing like it ran yet.
        """
        own = progress.hardware == self._hardware and progress.seconds_per_step
        known = (own, progress.compile_seconds) if own else self._known.get(speed_key(config))
        if steps is None or known is None:
            return None
        start = 0 if running else START_SECONDS + known[1]
        done = progress.step if running else progress.resumable
        return start + SPARE * known[0] * max(0, steps - done)


def remaining_part(progress, steps):
    """Part of a run that is still to be done, from 0 to 1."""
    return float(np.clip(1 - progress.resumable / steps, 0, 1)) if steps else 1.0
