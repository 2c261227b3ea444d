"""The training loop: one function from a model, batches and a recipe to a trained model.

It runs on every Keras backend. A run lives in a folder: checkpoints, `history.csv` and, at the end,
`weights.h5`; started again on the same folder it goes on where the last checkpoint left off, and ends
as if it had not stopped.
"""

import contextlib
import csv
import dataclasses
import functools
import itertools
import math
import pathlib
import time

import keras
import numpy as np

from keras_resv2.files import atomic_write
from keras_resv2.pretrained.weight_file import save_weights
from train import checkpoint
from train.averaging import averaged_weights
from train.devices import ONE_DEVICE
from train.losses import Loss
from train.optimizer import make_optimizer
from train.run_files import HISTORY, WEIGHTS
from train.steps import make_steps

SECONDS_PER_DISPATCH = 1.0
STEPS_PER_DISPATCH_OF_PROCESSES = 20


class Diverged(FloatingPointError):
    """The loss, or a weight, is no longer a number.

    Attributes:
        step: the first at which it was seen.
    """

    def __init__(self, message, step):
        super().__init__(message)
        self.step = step


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


@dataclasses.dataclass
class Progress:
    """What a run has done so far: goes into every checkpoint.

    Attributes:
        step: steps done.
        history: rows, one an epoch: step, epoch, learning_rate, train_loss (of all that the recipe puts into
            the loss), train_error (percent; of mixed images by the label of the larger part), test_error
            (percent) where it was measured, seconds.
        loss_sum, correct_sum, steps: of the current epoch so far.
        seconds: the run has taken, without the time it lay still.
    """

    step: int = 0
    history: list = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def from_checkpoint(cls, meta):
        """The progress that a checkpoint holds; of version 0.2 and earlier with the names of that time."""
        return cls(**{"correct_sum" if name == "right_sum" else name: value for name, value in meta.items()})

    def add(self, losses, corrects):
        """Counts steps, with the mean loss and the share of correct answers of each."""
        for loss, correct in zip(losses, corrects, strict=True):  # one by one: sums do not depend on the grouping
            self.loss_sum += float(loss)
            self.correct_sum += float(correct)
        self.step += len(losses)
        self.steps += len(losses)

    def end_epoch(self, epoch, rate):
        """Adds the row of the epoch that ends: means over its batches. Starts the next."""
        loss, error = self.loss_sum / self.steps, 100 * (1 - self.correct_sum / self.steps)
        self.loss_sum, self.correct_sum, self.steps = 0.0, 0.0, 0
        row = {"step": self.step, "epoch": epoch, "learning_rate": float(f"{rate:.6g}")}
        self.history.append({**row, "train_loss": round(loss, 5), "train_error": round(error, 3)})


def train(
    model, source, measure, recipe, out, *,
    units=None, checkpoint_seconds=60, evaluate_every=5, callbacks=(), stop=lambda: False, devices=ONE_DEVICE,
):  # fmt: skip
    """Trains `model` by `recipe`, resuming from `out` if it holds a checkpoint.

    Args:
        model: a `keras.Model` from raw pixels to logits. Afterwards it has the weights of the last step; where
            the recipe averages them, `weights.h5` and the test errors are those of the averaged ones.
        source: of batches: `train.data.device_data.DeviceData` or `train.data.image_stream.TrainStream`.
        measure: function from the network, an object with `predict_on_batch`, to a dictionary of test
            errors (percent).
        recipe: `train.recipes.Recipe`, with its steps counted.
        out: folder of the run; several processes share it.
        units: `train.stochastic_depth.UnitSampler` where `model` is a `SwitchedNetwork`.
        checkpoint_seconds: time between checkpoints.
        evaluate_every: epochs between measurements of the test error. The last step is always
            measured. The error is recorded; nothing is chosen by it.
        callbacks: functions called after every dispatch with ``(progress, rate, row)``; the row of
            the history at the end of an epoch, else None.
        stop: asked after every dispatch (about a second), before a measurement of the test error,
            whether to save and stop.
        devices: `train.devices.Devices`.

    Returns:
        `Progress`, with the whole history.

    Raises:
        Diverged: the loss is no longer a number; the last checkpoint is kept.
        Stopped: `stop` said so.
        ValueError: `out` holds a run of another network, or is not shared by all processes.
        OSError: the disk is full.
        ElsewhereError: another process has one of these.
    """
    run = _Run(model, source, recipe, pathlib.Path(out), units, stop, devices)
    progress = run.progress
    rate, dispatched = recipe.learning_rate(max(progress.step - 1, 0)), False
    while True:
        stopping = run.asked_to_stop()
        row = run.open_row(evaluate_every)
        if row is not None and not stopping:
            run.save(rate)  # a measurement may take long
            run.measure(row, measure)
        if dispatched or row is not None:
            run.report(callbacks, rate)
        if stopping and (row is not None or progress.step < recipe.steps):
            run.save(rate)
            raise Stopped(f"stopped after step {progress.step}, saved in {out}: the same command resumes.")
        if progress.step == recipe.steps:
            run.finish(rate)
            return progress
        if run.is_due(checkpoint_seconds):
            run.save(rate)
        rate, dispatched = run.dispatch(), True


class _Run:
    """The state of a run, and what is done with it."""

    def __init__(self, model, source, recipe, out, units, stop, devices):
        self._model, self._source, self._recipe, self._out = model, source, recipe, out
        self._units, self._stop, self._devices = units, stop, devices
        optimizer = make_optimizer(recipe, model.trainable_variables)
        self._state = [*model.trainable_variables, *model.non_trainable_variables, *optimizer.variables]
        with devices.sync_errors(ValueError, OSError):
            checkpoint.check_room(out, self._state)
            self.progress = Progress.from_checkpoint(checkpoint.restore(out, self._state) or {})
        if not devices.agree(self.progress.step):
            raise ValueError(f"the processes found different checkpoints: --out {out} must be a folder they share.")
        self._steps = make_steps(model, optimizer, source, devices, Loss.from_recipe(recipe))
        # In which the network is the one that is measured and published.
        self._result = contextlib.nullcontext
        if recipe.average:
            self._result = functools.partial(averaged_weights, model, optimizer, self._steps, source)
        self._batches = source.batches(self.progress.step)
        self._ready = list(itertools.islice(self._batches, 1))
        # Processes that go through a loop together must make it equally long, whatever their clocks say.
        self._fixed_steps_per_dispatch = devices.processes > 1
        fixed = min(STEPS_PER_DISPATCH_OF_PROCESSES, source.max_steps_per_dispatch)
        self._steps_per_dispatch = fixed if self._fixed_steps_per_dispatch else 1
        self._steps_per_epoch = math.ceil(source.images_per_epoch / recipe.batch_size)
        self._started = time.monotonic() - self.progress.seconds
        self._saved, self._saved_step = time.monotonic(), self.progress.step

    def dispatch(self):
        """Runs steps for about a second, at most to the end of the epoch; the last learning rate."""
        begun, before = time.monotonic(), self.progress.step
        epoch = before // self._steps_per_epoch + 1
        end = min(epoch * self._steps_per_epoch, self._recipe.steps)
        count = min(self._steps_per_dispatch, len(self._ready), end - before)
        rates = [self._recipe.learning_rate(before + i) for i in range(count)]
        switches = self._units and [self._units.draw(before + i) for i in range(count)]
        results = self._steps.run(rates, self._ready[:count], switches)
        del self._ready[:count]
        wanted = max(0, self._steps_per_dispatch - len(self._ready))
        self._ready.extend(itertools.islice(self._batches, wanted))  # on JAX while the accelerator works
        losses, corrects = (np.asarray(values)[:count] for values in results)
        _check_losses(losses, rates, before, self._saved_step)
        self.progress.add(losses, corrects)
        if not self._fixed_steps_per_dispatch:  # doubling at most: the first dispatch compiles and tells little
            wanted = SECONDS_PER_DISPATCH * count / (time.monotonic() - begun)
            most = min(2 * self._steps_per_dispatch, self._source.max_steps_per_dispatch)
            self._steps_per_dispatch = int(np.clip(wanted, 1, most))
        if self.progress.step == end:
            self.progress.end_epoch(epoch, rates[-1])
        self.progress.seconds = time.monotonic() - self._started
        return rates[-1]

    def open_row(self, evaluate_every):
        """The row of an epoch that just ended, if its test error is due and was not measured yet."""
        row = self._row()
        if row is None or "test_error" in row:
            return None
        due = row["epoch"] % evaluate_every == 0 or row["step"] == self._recipe.steps
        return row if due else None

    def _row(self):
        """The row of the epoch that the last step ended; else None."""
        history = self.progress.history
        return history[-1] if history and history[-1]["step"] == self.progress.step else None

    def measure(self, row, measure):
        """Puts the test errors into a row."""
        with self._result():
            row.update({name: round(error, 2) for name, error in measure(self._steps).items()})
        self.progress.seconds = time.monotonic() - self._started

    def report(self, callbacks, rate):
        """Tells callbacks of the last dispatch, and keeps history.csv."""
        row = self._row()
        if row is not None:
            row["seconds"] = round(self.progress.seconds, 1)
            self._write_history()
        for observe in callbacks:
            observe(self.progress, rate, row)

    def asked_to_stop(self):
        """Whether any process was asked to."""
        return self._devices.any(self._stop())

    def is_due(self, checkpoint_seconds):
        """Whether more time than that would be lost now, by any process's clock."""
        unsaved = self.progress.step > self._saved_step and time.monotonic() - self._saved > checkpoint_seconds
        return self._devices.any(unsaved)

    def save(self, rate):
        """Writes a checkpoint, unless a weight is no number."""
        self._steps.sync()
        _check_finite(self._state, self.progress.step, rate, self._saved_step)
        self._saved, self._saved_step = time.monotonic(), self.progress.step
        self._write(checkpoint.save, self._out, self.progress.step, self._state, dataclasses.asdict(self.progress))

    def finish(self, rate):
        """Writes the last checkpoint, history and weights."""
        self.save(rate)
        self._write_history()
        with self._result():
            self._write(save_weights, getattr(self._model, "network", self._model), self._out / WEIGHTS)

    def _write_history(self):
        self._write(write_history, self.progress.history, self._out / HISTORY)

    def _write(self, write, *arguments):
        """Lets the main process write a file; where it cannot, all processes stop."""
        with self._devices.sync_errors(OSError):
            if self._devices.main:
                write(*arguments)


def _check_losses(losses, rates, before, saved_step):
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        first = bad[0]
        raise _diverged(f"the loss is {losses[first]}", int(before + first + 1), rates[first], saved_step)


def _check_finite(state, step, rate, saved_step):
    """A checkpoint of weights that are no numbers could never be resumed."""
    for variable in state:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise _diverged(f"{variable.path} is not finite", step, rate, saved_step)


def _diverged(what, step, rate, saved_step):
    kept = f"The checkpoint of step {saved_step} is kept." if saved_step else "There is no checkpoint yet."
    return Diverged(f"{what} at step {step}, learning rate {rate:g}. {kept}", step)


def write_history(rows, path):
    """Writes rows as history.csv, whole or not at all."""
    columns = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    with atomic_write(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
