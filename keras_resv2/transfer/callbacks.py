"""The callback of fine-tuning: history, the best weights, early stopping."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.transfer.results import Results, concatenate


class _Checkpoint(NamedTuple):
    """Weights that may be kept, their row of the history, and their results on the validation images."""

    row: dict
    results: Results
    weights: list


class BestWeights(keras.callbacks.Callback):
    """Records the history, keeps the best weights, and stops when nothing improves.

    Of the weights whose validation error is within one standard error of the lowest (Breiman et al. 1984, section
    3.4.3) those with the lowest validation loss are the best. They are kept if they beat the classifier alone
    (`Results.beats`). After a cross-validation, and without validation images, the last weights are the best; a
    cross-validation measures such weights. They are kept if they beat the classifier alone on the images of the folds
    and the validation images together.

    Args:
        model: the model that is trained.
        validate: function without arguments that returns the `Results` on the validation images; or None.
        verbose: whether to print a line per epoch.
    """

    def __init__(self, model: keras.Model, validate: Callable[[], Results] | None, verbose: int):
        super().__init__()
        self.history, self.patience, self.patient_until = [], math.inf, 0  # an epoch
        self.learning_rate = None
        self._network, self._validate, self._verbose = model, validate, verbose
        self._lowest, self._waited, self._begun = math.inf, 0, time.monotonic()
        self._weights = self._earlier = model.get_weights()  # the best so far, and those before them
        self._classifier_alone, self._checkpoints = None, []
        self._folds = None  # results of the backbone and of the classifier alone

    def on_train_begin(self, logs=None):
        alone = self._classifier_alone if self._folds is None else None
        self._lowest, self._waited = alone.results.error if alone else math.inf, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]):
        results = self.add("body", logs["loss"], 1 - logs["accuracy"])
        if results is None:
            return
        logs.update(val_loss=results.loss, val_accuracy=1 - results.error)  # for the callbacks after this one
        if min(self._waited, epoch + 1 - self.patient_until) >= max(self.patience, 1):  # 0 means 1, as in Keras
            self._network.stop_training = True

    def add(self, phase: str, loss: float, error: float) -> Results | None:
        """Adds a row to the history, of the weights that the model has now.

        Args:
            phase: "head" or "body".
            loss: mean over the training images.
            error: of the training images, a share.

        Returns:
            `Results` on the validation images, or None.

        Raises:
            FloatingPointError: if a loss is NaN or infinite; the model gets the best weights so far.
        """
        results = self._validate() if self._validate else None
        bad = [value for value in (float(loss), results.loss if results else 0.0) if not math.isfinite(value)]
        if bad:
            if results is None:  # an epoch's loss is of the weights before its steps: nobody saw that of the last
                self._weights = self._earlier
            self.restore()
            raise FloatingPointError(
                f"the loss is {bad[0]} after {len(self.history)} epochs: lower learning_rate. The model has the best "
                "weights so far."
            )
        self._keep(self._add_row(phase, loss, error, results), results)
        return results

    def add_folds(self, learning_rate: float, loss: float, error: float, results: Results) -> None:
        """Adds a row of phase "folds" to the history.

        Args:
            learning_rate: highest learning rate.
            loss, error: mean over the training images of all folds.
            results: `Results` on the images that were held out.
        """
        self.learning_rate = learning_rate
        self._add_row("folds", loss, error, results)

    def trust_folds(self, body: Results, classifier_alone: Results) -> None:
        """Chooses the weights to keep by a cross-validation too.

        Args:
            body, classifier_alone: `Results` on the images that were held out, in the same order.
        """
        self._folds = body, classifier_alone

    def _add_row(self, phase, loss, error, results):
        row = {"phase": phase, "epoch": sum(row["phase"] == phase for row in self.history) + 1}
        row |= {"learning_rate": self.learning_rate} if self.learning_rate else {}
        row |= {"train_loss": float(loss), "train_error": 100 * float(error)}
        if results:
            low, high = results.interval
            row |= {"validation_loss": results.loss, "validation_error": 100 * results.error}
            row |= {"validation_error_low": low, "validation_error_high": high}
        row |= {"seconds": round(time.monotonic() - self._begun, 1), "best": False}
        self.history.append(row)
        if self._verbose:
            print(_line(row), flush=True)
        return row

    def _keep(self, row, results):
        """Updates which weights to keep."""
        error = results.error if results else 0.0
        self._waited = 0 if error < self._lowest else self._waited + 1
        self._lowest = min(error, self._lowest)
        weights = self._network.get_weights()
        # An epoch's loss is of the weights before its last step, which may have gone too far.
        if not all(np.isfinite(value).all() for value in weights):
            return
        if results is None:
            self._earlier, self._weights, best_row = self._weights, weights, row
        else:
            new = _Checkpoint(row, results, weights)
            if row["phase"] == "head":
                self._classifier_alone = new
            alone = self._classifier_alone
            best = self._last(new, alone, self._folds) if alone and self._folds else self._best(new, alone)
            self._weights, best_row = best.weights, best.row
        for each in self.history:
            each["best"] = each is best_row

    def _best(self, new, alone):
        """The best of all weights on the validation images."""
        error, loss = new.results.error, new.results.loss
        # Checkpoints with neither the lower error nor the lower loss are never chosen.
        rest = [c for c in self._checkpoints if c.results.error < error or c.results.loss < loss]
        beaten = any(c.results.error <= error and c.results.loss < loss for c in rest)
        self._checkpoints = rest if beaten else [*rest, new]
        lowest = min((c.results for c in self._checkpoints), key=lambda results: results.error)
        near = [c for c in self._checkpoints if c.results.error <= lowest.error + lowest.standard_error]
        best = min(near, key=lambda c: c.results.loss)
        return best if alone is None or best.results.beats(alone.results) else alone

    def _last(self, new, alone, folds):
        """The last weights, or the classifier alone if it is better on the images of the folds and of validation."""
        body, classifier = (concatenate([fold, c.results]) for fold, c in zip(folds, (new, alone), strict=True))
        return new if body.beats(classifier) else alone

    def kept_rate(self) -> float | None:
        """Learning rate of the backbone's training if the best weights are from it, else None."""
        return next((row["learning_rate"] for row in self.history if row["phase"] == "body" and row["best"]), None)

    def only_the_classifier(self) -> bool:
        """Whether the best weights are those of before the backbone was trained, although it was trained."""
        return len(self.history) > 1 and self.history[0]["phase"] == "head" and self.history[0]["best"]

    def restore(self) -> None:
        """Gives the model the best weights."""
        self._network.set_weights(self._weights)


def _line(row):
    text = f"{row['phase']} {row['epoch']:3d}: loss {row['train_loss']:.4f}, error {row['train_error']:.2f} %"
    if "validation_error" in row:
        images = "held-out images: " if row["phase"] == "folds" else "validation "
        text += f"; {images}loss {row['validation_loss']:.4f}, error {row['validation_error']:.2f} %"
        text += f" ({row['validation_error_low']:.1f} to {row['validation_error_high']:.1f})"
    return f"{text}, {row['seconds']:.0f} s"
