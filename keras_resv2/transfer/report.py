"""The history of a fine-tuning, and which of its weights are kept."""

import math
import time

import keras
import numpy as np


class Report(keras.callbacks.Callback):
    """Keeps the history and the best weights, stops when nothing gets better, and says so."""

    def __init__(self, model, pictures, verbose):
        super().__init__()
        self.history, self.patience, self.patient_until = [], math.inf, 0  # an epoch
        self._network, self._pictures, self._verbose = model, pictures, verbose  # so many to validate with, or None
        self._lowest, self._waited, self._begun = math.inf, 0, time.monotonic()
        self._weights = self._earlier = model.get_weights()  # the best so far, and those before them

    def on_epoch_end(self, epoch, logs=None):
        self.add("body", logs)
        if self._pictures and min(self._waited, epoch + 1 - self.patient_until) >= self.patience:
            self.model.stop_training = True

    def add(self, phase, logs):
        """A row of the history, from what Keras logs of an epoch.

        Raises:
            FloatingPointError: a loss is NaN or infinite; the model has the weights kept so far.
        """
        losses = [float(logs[name]) for name in ("loss", "val_loss") if name in logs]
        bad = [loss for loss in losses if not math.isfinite(loss)]
        if bad:  # Keras' accuracy counts NaN as class 0
            if not self._pictures:  # an epoch's loss is of the weights before its steps: the last ones were not seen
                self._weights = self._earlier
            self.restore()
            raise FloatingPointError(
                f"the loss is {bad[0]} after {len(self.history)} epochs: lower learning_rate. The model has the best "
                "weights so far."
            )
        row = {"phase": phase, "epoch": sum(row["phase"] == phase for row in self.history) + 1}
        row |= {"train_loss": float(logs["loss"]), "train_error": 100 * (1 - float(logs["accuracy"]))}
        if self._pictures:
            row |= {
                "validation_loss": float(logs["val_loss"]),
                "validation_error": 100 * (1 - float(logs["val_accuracy"])),
            }
        row |= {"seconds": round(time.monotonic() - self._begun, 1), "best": False}
        error = row["validation_error"] / 100 if self._pictures else 0.0
        self._waited = 0 if error < self._lowest else self._waited + 1
        self._lowest = min(error, self._lowest)
        weights = self._network.get_weights()
        # The loss of an epoch is that before its last step: the step may have gone too far.
        finite = all(np.isfinite(value).all() for value in weights)
        if finite and error <= self._lowest + self._standard_error():
            self._earlier, self._weights = self._weights, weights
            for earlier in self.history:
                earlier["best"] = False
            row["best"] = True
        self.history.append(row)
        if self._verbose:
            print(_line(row), flush=True)

    def _standard_error(self):
        """Of the lowest error, as a share; of an error of nothing too (Agresti & Coull 1998)."""
        if not self._pictures:
            return 0.0
        share = (self._lowest * self._pictures + 2) / (self._pictures + 4)
        return math.sqrt(share * (1 - share) / (self._pictures + 4))

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
    return f"{text} ({row['seconds']:.0f} s)"
