"""The state of a run: its progress, everything that the next step depends on, and the files that store them."""

import contextlib
import dataclasses
import itertools
import pathlib
import time

import keras
import numpy as np

from keras_resv2.data.checks import NotFiniteError
from keras_resv2.files import write_history
from keras_resv2.storage.weight_file import save_weights
from train import checkpoint
from train.averaging import measured_weights
from train.data.resizing import at_size
from train.optimizer import make_optimizer
from train.run_files import HISTORY, WEIGHTS

RECENT = 100  # steps on which moving statistics of batch normalization depend: 0.9 ** 100 is 3e-5


class Diverged(FloatingPointError):
    """Raised when the loss or a weight is NaN or infinite.

    Attributes:
        step: the first step at which it was detected.
    """

    def __init__(self, message, step):
        super().__init__(message)
        self.step = step


@dataclasses.dataclass
class Progress:
    """The progress of a run, stored in every checkpoint.

    Attributes:
        step: number of completed steps.
        history: one row per epoch: step, epoch, learning_rate, train_loss (including all terms of the recipe),
            train_error (percent; for mixed images by the label of the larger part), test_error (percent) if measured,
            seconds.
        loss_sum, correct_sum, steps: sums over the current epoch so far.
        seconds: duration of the run without interruptions.
    """

    step: int = 0
    history: list = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def from_checkpoint(cls, meta):
        """Restores the progress from a checkpoint, including old field names of version 0.2 and earlier."""
        return cls(**{"correct_sum" if name == "right_sum" else name: value for name, value in meta.items()})

    def add(self, losses, corrects):
        """Adds steps with the mean loss and the accuracy of each."""
        for loss, correct in zip(
            losses, corrects, strict=True
        ):  # one by one, so that sums do not depend on the grouping
            self.loss_sum += float(loss)
            self.correct_sum += float(correct)
        self.step += len(losses)
        self.steps += len(losses)

    def end_epoch(self, epoch, rate):
        """Adds the row of the finished epoch, with means over its batches, and starts the next."""
        loss, error = self.loss_sum / self.steps, 100 * (1 - self.correct_sum / self.steps)
        self.loss_sum, self.correct_sum, self.steps = 0.0, 0.0, 0
        row = {"step": self.step, "epoch": epoch, "learning_rate": float(f"{rate:.6g}")}
        self.history.append({**row, "train_loss": round(loss, 5), "train_error": round(error, 3)})

    @property
    def row(self):
        """Returns the row of the epoch that ended with the last step, else None."""
        return self.history[-1] if self.history and self.history[-1]["step"] == self.step else None


class RunState:
    """A network in training, with its optimizer, batches and directory.

    Args:
        model, source, measure, out, callbacks: see `train.loop.train`.
        recipe: `train.recipe.Recipe`, with its steps counted.
        devices: `train.devices.Devices`.
        step: step of the checkpoint to restore; None for the newest one.

    Attributes:
        model, source, out: the arguments.
        optimizer: built for the model's trainable variables.
        progress: `Progress`.
        error: `Diverged` once the run has diverged.

    Raises:
        ValueError: if `out` contains a run of another network.
        OSError: if the disk is full.
    """

    def __init__(self, model, source, measure, recipe, out, devices, callbacks=(), step=None):
        self.model, self.source, self.out = model, source, pathlib.Path(out)
        self._measure, self._recipe, self._devices, self._callbacks = measure, recipe, devices, callbacks
        self.optimizer = make_optimizer(recipe, model.trainable_variables)
        self._variables = [*model.trainable_variables, *model.non_trainable_variables, *self.optimizer.variables]
        self.error = self._steps = None
        with devices.sync_errors(ValueError, OSError):
            checkpoint.check_room(self.out, self._variables)
            self.progress = Progress.from_checkpoint(checkpoint.restore(self.out, self._variables, step) or {})
        self._batches = source.batches(self.progress.step)
        self._ready = list(itertools.islice(self._batches, 1))
        self._started = time.monotonic() - self.progress.seconds
        self._saved, self._saved_step = time.monotonic(), self.progress.step

    def attach(self, steps):
        """Sets the object that computes the steps, see `train.steps.make_steps`."""
        self._steps = steps

    def _result(self):
        """Returns a context manager in which the network has the weights to evaluate and publish."""
        averaged, recent = bool(self._recipe.average), range(max(0, self.progress.step - RECENT), self.progress.step)
        counts = {self._recipe.unit_count(step) for step in recent} - {None}
        whole = all(count == self.model.switches.shape[0] for count in counts)
        if whole and not averaged and not any(self._resized(step) for step in recent):
            return contextlib.nullcontext()
        return measured_weights(self.model, self.optimizer, self._steps, self.source, averaged)

    def _resized(self, step):
        """Returns whether the images of a step had another size than the test images; those of streams have many."""
        return at_size(self.source, self._recipe.side(step)) is not self.source

    @property
    def ready(self):
        """Number of batches that are ready."""
        return len(self._ready)

    def take(self, count):
        """Returns the next `count` batches, which must be ready."""
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def draw(self, wanted):
        """Draws batches until `wanted` are ready."""
        self._ready.extend(itertools.islice(self._batches, max(0, wanted - len(self._ready))))

    def add(self, losses, corrects, rates):
        """Adds steps.

        Raises:
            Diverged: if a loss is NaN or infinite.
        """
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            step = int(self.progress.step + bad[0] + 1)
            raise self._diverged(f"the loss is {losses[bad[0]]}", step, rates[bad[0]])
        self.progress.add(losses, corrects)

    def update_seconds(self):
        """Updates the duration of the run."""
        self.progress.seconds = time.monotonic() - self._started

    def lacks_test_error(self, evaluate_every):
        """Returns whether the last step ended an epoch whose test error is due and has not been measured."""
        row = self.progress.row
        if row is None or "test_error" in row:
            return False
        return row["epoch"] % evaluate_every == 0 or row["step"] == self._recipe.steps

    def measure(self, evaluate_every, rate):
        """Adds the test errors to the row of the epoch that ended, if they are due.

        Raises:
            Diverged: if class scores are NaN or infinite.
        """
        if not self.lacks_test_error(evaluate_every):
            return
        try:
            with self._result():
                self.progress.row.update({name: round(error, 2) for name, error in self._measure(self._steps).items()})
        except NotFiniteError as error:
            raise self._diverged(f"of the test images, {error}", self.progress.step, rate) from None
        self.update_seconds()

    def report(self, rate):
        """Calls callbacks after a dispatch, and updates history.csv."""
        row = self.progress.row
        if row is not None:
            row["seconds"] = round(self.progress.seconds, 1)
            self._write_history()
        for callback in self._callbacks:
            callback(self.progress, rate, row)

    def is_due(self, checkpoint_seconds):
        """Returns whether the last checkpoint is older than this."""
        return self.progress.step > self._saved_step and time.monotonic() - self._saved > checkpoint_seconds

    def save(self, rate):
        """Writes a checkpoint.

        Raises:
            Diverged: if a weight is NaN or infinite, because such a checkpoint could never be resumed.
        """
        self._steps.sync()
        for variable in self._variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise self._diverged(f"{variable.path} is not finite", self.progress.step, rate)
        self._saved, self._saved_step = time.monotonic(), self.progress.step
        self._write(checkpoint.save, self.out, self.progress.step, self._variables, dataclasses.asdict(self.progress))

    def finish(self, rate):
        """Writes the last checkpoint, history and weights."""
        self.save(rate)
        self._write_history()
        with self._result():
            self._write(save_weights, getattr(self.model, "network", self.model), self.out / WEIGHTS)

    def _write_history(self):
        self._write(write_history, self.progress.history, self.out / HISTORY)

    def _write(self, write, *arguments):
        """Writes a file in the main process; all processes stop if it fails."""
        with self._devices.sync_errors(OSError):
            if self._devices.main:
                write(*arguments)

    def _diverged(self, what, step, rate):
        kept = f"The checkpoint of step {self._saved_step} is kept." if self._saved_step else ""
        kept = kept or "There is no checkpoint yet."
        self.error = Diverged(f"{what} at step {step}, learning rate {rate:g}. {kept}", step)
        return self.error
