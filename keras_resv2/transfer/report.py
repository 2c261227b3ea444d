"""The history of a fine-tuning, and which of its weights are kept."""

import math
import time
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.transfer.measuring import Measured


class _Candidate(NamedTuple):
    """Weights that may be kept: row of the history, what they do on the validation images, and they themselves."""

    row: dict
    measured: Measured
    weights: list


class Report(keras.callbacks.Callback):
    """Keeps the history and the best weights, stops when nothing gets better, and says so.

    Of the weights whose validation error is within one standard error of the lowest (Breiman et al. 1984, section
    3.4.3) those with the lowest validation loss are kept; and those of the classifier alone, unless the others make
    fewer mistakes, or as many with a lower loss. Without validation images the last ones are kept.

    Args:
        model: that is trained.
        validate: function without arguments to `Measured`, of the validation images; or None.
        verbose: whether to print a line for each epoch.
    """

    def __init__(self, model, validate, verbose):
        super().__init__()
        self.history, self.patience, self.patient_until = [], math.inf, 0  # an epoch
        self.learning_rate = None
        self._network, self._validate, self._verbose = model, validate, verbose
        self._lowest, self._waited, self._begun = math.inf, 0, time.monotonic()
        self._weights = self._earlier = model.get_weights()  # the best so far, and those before them
        self._classifier_alone, self._candidates = None, []

    def on_train_begin(self, logs=None):
        alone = self._classifier_alone
        self._lowest, self._waited = alone.measured.error if alone else math.inf, 0

    def on_epoch_end(self, epoch, logs=None):
        found = self.add("body", logs["loss"], 1 - logs["accuracy"])
        if found is None:
            return
        logs.update(val_loss=found.loss, val_accuracy=1 - found.error)  # for the callbacks after this one
        if min(self._waited, epoch + 1 - self.patient_until) >= self.patience:
            self.model.stop_training = True

    def add(self, phase, loss, error):
        """A row of the history.

        Args:
            phase: "head" or "body".
            loss, error: of the training images; error as a share.

        Returns:
            `Measured` of the validation images, or None.

        Raises:
            FloatingPointError: a loss is NaN or infinite; the model has the weights kept so far.
        """
        found = self._validate() if self._validate else None
        bad = [value for value in (float(loss), found.loss if found else 0.0) if not math.isfinite(value)]
        if bad:
            if found is None:  # an epoch's loss is of the weights before its steps: the last ones were not seen
                self._weights = self._earlier
            self.restore()
            raise FloatingPointError(
                f"the loss is {bad[0]} after {len(self.history)} epochs: lower learning_rate. The model has the best "
                "weights so far."
            )
        row = {"phase": phase, "epoch": sum(row["phase"] == phase for row in self.history) + 1}
        row |= {"learning_rate": self.learning_rate} if self.learning_rate else {}
        row |= {"train_loss": float(loss), "train_error": 100 * float(error)}
        if found:
            low, high = found.interval
            row |= {"validation_loss": found.loss, "validation_error": 100 * found.error}
            row |= {"validation_error_low": low, "validation_error_high": high}
        row |= {"seconds": round(time.monotonic() - self._begun, 1), "best": False}
        self.history.append(row)
        self._keep(row, found)
        if self._verbose:
            print(_line(row), flush=True)
        return found

    def _keep(self, row, found):
        """Chooses the weights to keep among those of before and those of now."""
        error = found.error if found else 0.0
        self._waited = 0 if error < self._lowest else self._waited + 1
        self._lowest = min(error, self._lowest)
        weights = self._network.get_weights()
        # The loss of an epoch is that before its last step: the step may have gone too far.
        if not all(np.isfinite(value).all() for value in weights):
            return
        new = _Candidate(row, found, weights)
        if found is None:
            best, self._earlier = new, self._weights
        else:
            if row["phase"] == "head":
                self._classifier_alone = new
            # Those that another one beats in both will not be chosen whatever comes.
            rest = [c for c in self._candidates if c.measured.error < error or c.measured.loss < found.loss]
            beaten = any(c.measured.error <= error and c.measured.loss < found.loss for c in rest)
            self._candidates = rest if beaten else [*rest, new]
            best = self._best()
        self._weights = best.weights
        for each in self.history:
            each["best"] = each is best.row

    def _best(self):
        lowest = min((c.measured for c in self._candidates), key=lambda measured: measured.error)
        near = [c for c in self._candidates if c.measured.error <= lowest.error + lowest.standard_error]
        best, alone = min(near, key=lambda c: c.measured.loss), self._classifier_alone
        return best if alone is None or best.measured.beats(alone.measured) else alone

    def only_the_classifier(self):
        """Whether the weights kept are those before the body was trained, although it was."""
        return len(self.history) > 1 and self.history[0]["phase"] == "head" and self.history[0]["best"]

    def restore(self):
        """Gives the model the best weights."""
        self._network.set_weights(self._weights)


def _line(row):
    text = f"{row['phase']} {row['epoch']:3d}: loss {row['train_loss']:.4f}, error {row['train_error']:.2f} %"
    if "validation_error" in row:
        text += f"; validation loss {row['validation_loss']:.4f}, error {row['validation_error']:.2f} %"
        text += f" ({row['validation_error_low']:.1f} to {row['validation_error_high']:.1f})"
    return f"{text}, {row['seconds']:.0f} s"
