"""The training of the backbone: Adam with discriminative learning rates, a warm-up and a cosine schedule."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_resv2.transfer.discriminative_learning_rates import DiscriminativeAdam, learning_rate_factors
from keras_resv2.transfer.head import compile_classifier

LEAST_WARMUP = 20  # steps: Adam's averages are of few gradients then, and full steps go too far


@dataclasses.dataclass(frozen=True)
class BodyTraining:
    """What the trainings of a network have in common, those of cross-validation too.

    Attributes:
        model: the network.
        rate_decay, warmup, batch_size, augment, seed: as `fine_tune` takes them.
        soft: whether labels are class probabilities.
    """

    model: keras.Model
    rate_decay: float
    warmup: float
    batch_size: int
    augment: tuple
    seed: int
    soft: bool

    def compile(self, learning_rate: float, steps: int) -> None:
        """Compiles the model for a training of so many steps with a highest learning rate."""
        optimizer = DiscriminativeAdam(
            schedule(learning_rate, warmup_steps(self.warmup, steps), steps),
            factors=learning_rate_factors(self.model, self.rate_decay),
        )
        compile_classifier(self.model, optimizer, self.soft)

    def fit(
        self, batches: Any, epochs: int, steps_per_epoch: int | None = None, callbacks: Sequence = ()
    ) -> keras.callbacks.History:
        """Trains the compiled model."""
        with warnings.catch_warnings():
            # Keras' remark on every dataset of unknown size, which is passed once per epoch all the same.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            return self.model.fit(
                batches,
                steps_per_epoch=steps_per_epoch,
                epochs=epochs,
                callbacks=list(callbacks),
                verbose=0,
                shuffle=False,
            )


def warmup_steps(share: float, steps: int) -> int:
    """Steps of the warm-up: a fraction of all, but at least `LEAST_WARMUP`, or half of all if that is less.

    Example:

    >>> warmup_steps(0.1, 1000), warmup_steps(0.1, 150), warmup_steps(0.1, 30), warmup_steps(0.0, 40)
    (100, 20, 15, 0)
    """
    asked = min(round(share * steps), steps - 1)
    return max(asked, min(LEAST_WARMUP, steps // 2)) if share else 0


def warmup_epochs(share: float, epochs: int, count: int) -> int:
    """The epoch in which the warm-up ends, of epochs of `count` steps."""
    return math.ceil(warmup_steps(share, epochs * count) / count)


def schedule(learning_rate: float, warm: int, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """From zero to `learning_rate` in `warm` steps, then to zero along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else learning_rate,
        max(1, steps - warm),
        warmup_target=learning_rate if warm else None,
        warmup_steps=warm,
    )
