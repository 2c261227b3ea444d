"""The training loop: one function from a model, data and a recipe to a trained model.

It runs on every Keras backend. A run lives in a folder: checkpoints, `history.csv` and, at the end,
`weights.h5`; started again on the same folder it goes on where the last checkpoint left off, and ends
as if it had not stopped.
"""

import csv
import dataclasses
import math
import pathlib
import time

import keras
import numpy as np

from keras_resv2.evaluation import measure_error
from keras_resv2.pretrained.weight_file import save_weights
from train import checkpoint
from train.data import Batches

HISTORY_COLUMNS = (
    "step", "epoch", "learning_rate", "train_loss", "train_error", "test_error", "seconds",
)  # fmt: skip


class SGD(keras.optimizers.SGD):
    """Momentum SGD with L2 weight decay in the gradient, as the papers' code has it.

    Keras' own `weight_decay` shrinks the weight outside the momentum, which with momentum 0.9 is
    about a tenth of the effect.

    Args:
        l2: factor of the weights in the gradient.
        decays: function from a variable to whether it is decayed.
    """

    def __init__(self, *args, l2, decays, **kwargs):
        super().__init__(*args, **kwargs)
        self._l2, self._decays = l2, decays

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        decayed = [
            g + self._l2 * keras.ops.cast(v, g.dtype) if self._l2 and self._decays(v) else g
            for g, v in zip(grads, variables, strict=True)
        ]
        super().apply(decayed, trainable_variables)


@dataclasses.dataclass
class Progress:
    """What a run has done so far: goes into every checkpoint.

    Attributes:
        history: rows of `HISTORY_COLUMNS`, one an epoch.
        loss_sum, right_sum, steps: of the current epoch so far.
        seconds: the run has taken, without the time it lay still.
    """

    history: list
    loss_sum: float = 0.0
    right_sum: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    def add_step(self, loss, accuracy):
        """Counts one batch."""
        self.loss_sum += loss
        self.right_sum += accuracy
        self.steps += 1

    def end_epoch(self, **columns):
        """The row of the epoch that ends: means over its batches. Starts the next."""
        loss, error = self.loss_sum / self.steps, 100 * (1 - self.right_sum / self.steps)
        self.loss_sum, self.right_sum, self.steps = 0.0, 0.0, 0
        self.history.append({**columns, "train_loss": round(loss, 5), "train_error": round(error, 3)})
        return self.history[-1]


def train(model, train_data, test_data, recipe, seed, out, checkpoint_seconds=60, evaluate_every=5, observers=()):
    """Trains `model` by `recipe`, resuming from `out` if it holds a checkpoint.

    Args:
        model: a `keras.Model` from raw pixels to logits.
        train_data, test_data: ``(images, labels)``, uint8 ``(n, h, w, 3)`` and ``(n,)``.
        recipe: `train.recipes.Recipe`.
        seed: of the order of images and of augmentation.
        out: folder of the run.
        checkpoint_seconds: time between checkpoints.
        evaluate_every: epochs between measurements of the test error. The last step is always
            measured. The error is recorded; nothing is chosen by it.
        observers: functions called after every step with ``(steps done, row)``; the row of the
            history at the end of an epoch, else None.

    Returns:
        `Progress`, with the whole history.

    Raises:
        FloatingPointError: the loss is no longer a number; the last checkpoint is kept.
        ValueError: `out` holds a run of another network.
    """
    out = pathlib.Path(out)
    _compile(model, recipe)
    state = [*model.variables, *model.optimizer.variables]
    first, meta = checkpoint.restore(out, state)
    progress = Progress(**meta) if meta else Progress([])
    batches = Batches(*train_data, recipe, seed)
    steps_per_epoch = math.ceil(len(train_data[1]) / recipe.batch_size)
    started = time.monotonic() - progress.seconds
    last_save = time.monotonic()

    for done in range(first + 1, recipe.steps + 1):
        rate = recipe.learning_rate(done - 1)
        model.optimizer.learning_rate = rate
        model.reset_metrics()  # older Keras returns means since the last reset
        loss, accuracy = map(float, model.train_on_batch(*batches[done - 1]))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {done}, learning rate {rate:g}. The last good checkpoint is in {out}."
            )
        progress.add_step(loss, accuracy)
        row = None
        if done % steps_per_epoch == 0 or done == recipe.steps:
            epoch = math.ceil(done / steps_per_epoch)
            row = progress.end_epoch(step=done, epoch=epoch, learning_rate=float(f"{rate:.6g}"))
            if epoch % evaluate_every == 0 or done == recipe.steps:
                row["test_error"] = round(measure_error(model, *test_data), 2)
            row["seconds"] = round(time.monotonic() - started, 1)
            _write_history(out, progress.history)
        progress.seconds = time.monotonic() - started
        if time.monotonic() - last_save > checkpoint_seconds or done == recipe.steps:
            _check_finite(state, done, rate)
            checkpoint.save(out, done, state, dataclasses.asdict(progress))
            last_save = time.monotonic()
        for observe in observers:
            observe(done, row)
    save_weights(model, out / "weights.h5")
    return progress


def _check_finite(state, step, rate):
    """A checkpoint of weights that are no numbers could never be resumed."""
    for variable in state:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise FloatingPointError(f"{variable.path} is not finite after step {step}, learning rate {rate:g}.")


def _compile(model, recipe):
    """Prepares the model for `train_on_batch`, which then returns loss and accuracy of the batch."""
    optimizer = SGD(
        recipe.learning_rate(0),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        l2=recipe.weight_decay,
        decays=lambda variable: recipe.decay == "all" or variable.path.endswith("kernel"),
    )
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # On a CPU XLA is slower than TensorFlow's own kernels.
        jit_compile=keras.backend.backend() == "jax",
    )


def _write_history(out, rows):
    with open(out / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
