"""Displays a run: a progress bar on a terminal, a line per epoch, curves."""

import contextlib
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from keras_resv2.figures import BLUE, VERMILION, add_grid, new_figure, save_figure
from train.recipe import full_size_steps


class ProgressDisplay:
    """Reports steps and epochs; a callback of `train.loop.train`.

    On a terminal it shows a bar with steps, images/s, loss, errors, learning rate and the remaining time, and a line
    per epoch above it; otherwise only the lines.

    Args:
        recipe: `train.recipe.Recipe`, with its steps counted.
        label: start of each line, if several runs share a program.
        with_bar: whether to show a bar; a terminal can only show one.
    """

    def __init__(self, recipe, label="", with_bar=True):
        self._recipe, self._label = recipe, f"{label}  " if label else ""
        self._started = self._first = self._side = None
        self._test_error = ""
        self._bar = None
        if with_bar and sys.stdout.isatty():
            columns = (BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console())
            self._task = self._bar.add_task("compiling", total=full_size_steps(recipe.sides(), recipe.steps))

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception):
        if self._bar:
            self._bar.stop()

    def __call__(self, progress, rate, row):
        now = time.monotonic()
        side = self._recipe.side(max(progress.step - 1, 0))
        if self._started is None or side != self._side:
            # The first dispatch of a size includes compilation: exclude it from the speed.
            self._started, self._first, self._side = now, progress.step, side
        passed = max(now - self._started, 1e-9)
        speed = (progress.step - self._first) / passed
        if row and "test_error" in row:
            self._test_error = f", test error {row['test_error']:.2f} %"
        left = self._seconds_left(progress.step, passed)
        if self._bar:
            done = full_size_steps(self._recipe.sides(), progress.step)
            self._bar.update(self._task, completed=done, description=self._state(progress, rate, speed, left))
        if row:
            print(self._line(row, speed, left), flush=True)

    def _state(self, progress, rate, speed, left):
        done = f"{progress.step:,}/{self._recipe.steps:,}, {left / 60:.0f} min left"
        speed = f"{done}, {speed * self._recipe.batch_size:,.0f} images/s, rate {rate:.4g}"
        if not progress.steps:
            return speed
        loss, correct = progress.loss_sum / progress.steps, progress.correct_sum / progress.steps
        return f"{speed}, loss {loss:.3f}, error {100 * (1 - correct):.1f} %{self._test_error}"

    def _seconds_left(self, step, passed):
        """Estimates the remaining seconds; 0 after the first dispatch, which is not timed."""
        sides, steps = self._recipe.sides(), (self._first, step, self._recipe.steps)
        before, done, whole = (full_size_steps(sides, number) for number in steps)
        return passed * (whole - done) / (done - before) if done > before else 0

    def _line(self, row, speed, left):
        error = f"test error {row['test_error']:5.2f} %" if "test_error" in row else " " * 18
        return (
            f"{self._label}epoch {row['epoch']:3d}  step {row['step']:6d}  rate {row['learning_rate']:.4f}  "
            f"loss {row['train_loss']:.4f}  train error {row['train_error']:6.2f} %  {error}  "
            f"{speed * self._recipe.batch_size:,.0f} images/s  {left / 60:.0f} min left"
        )


@contextlib.contextmanager
def tensorboard(folder):
    """Returns a callback that writes loss, errors and learning rate for TensorBoard.

    Args:
        folder: folder of the event files.

    Raises:
        ImportError: if tensorboard is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise ImportError("--tensorboard requires tensorboard: pip install tensorboard") from None
    writer = Writer(str(folder))

    def observe(progress, rate, row):
        writer.add_scalar("learning_rate", rate, progress.step)
        if progress.steps:
            writer.add_scalar("loss", progress.loss_sum / progress.steps, progress.step)
        for name in (row or {}).keys() - {"step", "epoch", "learning_rate"}:
            writer.add_scalar(f"epoch/{name}", row[name], progress.step)

    try:
        yield observe
    finally:
        writer.close()


def draw_curve(history, path, title):
    """Draws training loss and test error against steps, as He et al. 2016 do (Fig. 3, 6).

    Args:
        history: rows, see `train.run_state.Progress`.
        path: path of the PNG.
        title: title of the plot.
    """
    figure, (axes,) = new_figure(size=(6, 4.3))
    errors = axes.twinx()
    measured = [row for row in history if "test_error" in row]
    loss = axes.plot([row["step"] for row in history], [row["train_loss"] for row in history], "--", color=BLUE)
    error = errors.plot(
        [row["step"] for row in measured], [row["test_error"] for row in measured], "-o", color=VERMILION, ms=3
    )
    axes.set(xlabel="steps", ylabel="training loss", title=title, yscale="log")
    errors.set(ylabel="test error (%)", ylim=(0, None))
    figure.legend([*loss, *error], ["training loss", "test error"], loc="outside lower center", ncols=2)
    add_grid(axes)
    save_figure(figure, path)
