"""What a person sees of a run: a progress bar on a terminal, a line per epoch, and the curve."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Reports steps and epochs; an observer of `train.engine.train`.

    Args:
        steps: of the whole run.
    """

    def __init__(self, steps):
        self._steps = steps
        self._started = self._first = None
        self._bar = None
        if sys.stdout.isatty():
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console())
            self._task = self._bar.add_task("compiling", total=steps)

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception):
        if self._bar:
            self._bar.stop()

    def __call__(self, done, row):
        now = time.monotonic()
        if self._started is None:  # the first step compiles: it is left out of the speed
            self._started, self._first = now, done
        speed = (done - self._first) / max(now - self._started, 1e-9)
        if self._bar:
            self._bar.update(self._task, completed=done, description=f"{speed:.2f} steps/s")
        if row:
            left = (self._steps - done) / speed / 60 if speed else 0
            print(_line(row, left), flush=True)


def _line(row, minutes_left):
    error = f"  test error {row['test_error']:5.2f} %" if "test_error" in row else " " * 20
    return (
        f"epoch {row['epoch']:3d}  step {row['step']:6d}  rate {row['learning_rate']:.4f}  loss {row['train_loss']:.4f}"
        f"  train error {row['train_error']:6.2f} %{error}  {minutes_left:.0f} min left"
    )


def draw_curve(history, path, title):
    """Draws training and test error against steps, as the papers' figures do.

    Args:
        history: rows of `train.engine.HISTORY_COLUMNS`.
        path: of the PNG.
        title: above the plot.
    """
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for column, style in (("train_error", "--"), ("test_error", "-")):
        rows = [row for row in history if column in row]
        axes.plot([row["step"] for row in rows], [row[column] for row in rows], style, label=column.replace("_", " "))
    axes.set(xlabel="steps", ylabel="error (%)", title=title, ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
