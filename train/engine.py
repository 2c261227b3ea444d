"""The training loop: one function from a model, batches and a recipe to a trained model.

It runs on every Keras backend. A run lives in a folder: checkpoints, `history.csv` and, at the end,
`weights.h5`; started again on the same folder it goes on where the last checkpoint left off, and ends
as if it had not stopped.
"""

import csv
import dataclasses
import itertools
import math
import pathlib
import time

import keras
import numpy as np

from keras_resv2.pretrained.weight_file import save_weights
from train import checkpoint
from train.optimizer import make_optimizer
from train.steps import make_steps

SECONDS_PER_DISPATCH = 1.0


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


@dataclasses.dataclass
class Progress:
    """What a run has done so far: goes into every checkpoint.

    Attributes:
        step: steps done.
        history: rows, one an epoch: step, epoch, learning_rate, train_loss, train_error (percent),
            test_error (percent) where it was measured, seconds.
        loss_sum, right_sum, steps: of the current epoch so far.
        seconds: the run has taken, without the time it lay still.
    """

    step: int = 0
    history: list = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    right_sum: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    def add(self, losses, rights):
        """Counts steps, with the mean loss and the share of right answers of each."""
        for loss, right in zip(losses, rights, strict=True):  # one by one: sums do not depend on the grouping
            self.loss_sum += float(loss)
            self.right_sum += float(right)
        self.step += len(losses)
        self.steps += len(losses)

    def end_epoch(self, epoch, rate):
        """The row of the epoch that ends: means over its batches. Starts the next."""
        loss, error = self.loss_sum / self.steps, 100 * (1 - self.right_sum / self.steps)
        self.loss_sum, self.right_sum, self.steps = 0.0, 0.0, 0
        row = {"step": self.step, "epoch": epoch, "learning_rate": float(f"{rate:.6g}")}
        self.history.append({**row, "train_loss": round(loss, 5), "train_error": round(error, 3)})
        return self.history[-1]


def train(
    model, source, measure, recipe, out, *,
    checkpoint_seconds=60, evaluate_every=5, observers=(), stop=lambda: False, devices=None,
):  # fmt: skip
    """Trains `model` by `recipe`, resuming from `out` if it holds a checkpoint.

    Args:
        model: a `keras.Model` from raw pixels to logits.
        source: of batches: `train.data.Resident` or `train.streams.TrainStream`.
        measure: function from the network, an object with `predict_on_batch`, to a dictionary of test
            errors (percent).
        recipe: `train.recipes.Recipe`, with its steps counted.
        out: folder of the run.
        checkpoint_seconds: time between checkpoints.
        evaluate_every: epochs between measurements of the test error. The last step is always
            measured. The error is recorded; nothing is chosen by it.
        observers: functions called after every dispatch with ``(progress, rate, row)``; the row of
            the history at the end of an epoch, else None.
        stop: asked after every dispatch (about a second) whether to save and stop.
        devices: `train.devices.Devices`; None for one device.

    Returns:
        `Progress`, with the whole history.

    Raises:
        FloatingPointError: the loss is no longer a number; the last checkpoint is kept.
        Stopped: `stop` said so.
        ValueError: `out` holds a run of another network.
        OSError: the disk is full.
    """
    out = pathlib.Path(out)
    main = devices is None or devices.main  # the process that writes
    optimizer = make_optimizer(recipe, model.trainable_variables)
    state = [*model.trainable_variables, *model.non_trainable_variables, *optimizer.variables]
    if main:
        checkpoint.check_room(out, state)
    progress = Progress(**(checkpoint.restore(out, state) or {}))
    steps = make_steps(model, optimizer, source, devices)
    feeds = source.feeds(progress.step)
    ready = list(itertools.islice(feeds, 1))
    pace = 1
    steps_per_epoch = math.ceil(source.images_per_epoch / recipe.batch_size)
    started, last_save = time.monotonic() - progress.seconds, time.monotonic()

    while progress.step < recipe.steps:
        begun = time.monotonic()
        epoch = progress.step // steps_per_epoch + 1
        end = min(epoch * steps_per_epoch, recipe.steps)
        count = min(pace, len(ready), end - progress.step)
        rates = [recipe.learning_rate(progress.step + i) for i in range(count)]
        results = steps.run(rates, ready[:count])
        del ready[:count]
        ready.extend(itertools.islice(feeds, max(0, pace - len(ready))))  # while the accelerator works
        losses, rights = (np.asarray(values)[:count] for values in results)
        _check_losses(losses, rates, progress.step, out)
        progress.add(losses, rights)
        # The first dispatch compiles: the second shows the pace.
        seconds_per_step = (time.monotonic() - begun) / count
        pace = int(np.clip(SECONDS_PER_DISPATCH / seconds_per_step, 1, min(2 * pace, source.most_steps)))

        row = None
        if progress.step == end:
            row = progress.end_epoch(epoch, rates[-1])
            if epoch % evaluate_every == 0 or end == recipe.steps:
                row.update({name: round(error, 2) for name, error in measure(steps).items()})
            row["seconds"] = round(time.monotonic() - started, 1)
        progress.seconds = time.monotonic() - started
        stopping = stop()
        if stopping or end == recipe.steps == progress.step or time.monotonic() - last_save > checkpoint_seconds:
            steps.sync()
            _check_finite(state, progress.step, rates[-1])
            if main:
                checkpoint.save(out, progress.step, state, dataclasses.asdict(progress))
            last_save = time.monotonic()
        if row and main:
            _write_history(out, progress.history)
        for observe in observers:
            observe(progress, rates[-1], row)
        if stopping and progress.step < recipe.steps:
            raise Stopped(f"stopped after step {progress.step}, saved in {out}: the same command resumes.")
    steps.sync()
    if main:
        save_weights(model, out / "weights.h5")
    return progress


def _check_losses(losses, rates, before, out):
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise FloatingPointError(
            f"the loss is {losses[bad[0]]} at step {before + bad[0] + 1}, learning rate {rates[bad[0]]:g}. "
            f"The last good checkpoint is in {out}."
        )


def _check_finite(state, step, rate):
    """A checkpoint of weights that are no numbers could never be resumed."""
    for variable in state:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise FloatingPointError(f"{variable.path} is not finite after step {step}, learning rate {rate:g}.")


def read_history(path):
    """Rows of a history.csv, as `Progress` has them."""
    with open(path, newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _write_history(out, rows):
    columns = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    with open(out / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
