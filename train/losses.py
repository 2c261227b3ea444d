"""The training loss: cross-entropy, with label smoothing or mixup, and distillation."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

SHARES = 256  # shares are multiples of 1/256, so that mixed pixels are the same on every backend


class Targets(NamedTuple):
    """The targets of a step's images.

    Attributes:
        labels: ``(batch,)``: class indices; for mixed images those of the larger part.
        partners: ``(batch,)``: class indices of the other part; None without mixup.
        shares: ``(batch,)``: weight of `labels` in units of 1/256, 128 to 256; None without mixup.
        teacher_logits: ``(batch, classes)``: the teacher's logits for the same images, of several teachers the mean;
            None without a teacher.
    """

    labels: Any
    partners: Any = None
    shares: Any = None
    teacher_logits: Any = None


@dataclasses.dataclass(frozen=True)
class Loss:
    """The loss of a recipe.

    With labels alone it is the cross-entropy. Label smoothing mixes the uniform distribution into the labels (Szegedy
    et al. 2016, arXiv 1512.00567, section 7), mixup uses the weighted mean of the cross-entropies of both labels (Zhang
    et al. 2018, arXiv 1710.09412), and distillation a weighted mean with ``temperature^2 * KL(teacher || student)``,
    both softened by the temperature (Hinton et al. 2015, arXiv 1503.02531).

    `keras.distillation.LogitsDistillation` is not used, because its default loss treats logits as probabilities (Keras
    3.15), and `KLDivergence` clips at 1e-7, where gradients vanish.

    Attributes:
        label_smoothing: weight of the uniform distribution, 0 to 1.
        temperature: divisor of the logits of teacher and student.
        teacher_weight: weight of the distillation loss, 0 to 1; the labels have the rest.

    Example:

    >>> import numpy as np
    >>> loss, correct = Loss(label_smoothing=0.1)(np.array([0]), np.array([[2.0, 0.0]], "float32"), 1)
    >>> round(float(loss), 4), float(correct)
    (0.2269, 1.0)
    """

    label_smoothing: float = 0.0
    temperature: float = 1.0
    teacher_weight: float = 0.0

    @classmethod
    def from_recipe(cls, recipe):
        """Creates the loss of a `train.recipe.Recipe`."""
        teacher_weight = recipe.teacher_weight if recipe.teacher else 0.0
        return cls(recipe.label_smoothing, recipe.temperature, teacher_weight)

    def __call__(self, targets, logits, images_per_step):
        """Computes loss and correct predictions of (a part of) a batch, each divided by the whole batch's size.

        Args:
            targets: `Targets`, or labels.
            logits: ``(batch, classes)``, float32.
            images_per_step: number of images in the whole batch.

        Returns:
            ``(loss, correct)``: two numbers. A prediction is correct if the highest score is that of `Targets.labels`:
            with mixup, the label of the larger part.
        """
        targets = targets if isinstance(targets, Targets) else Targets(targets)
        losses = self._cross_entropy(targets.labels, logits)
        if targets.shares is not None:
            share = ops.cast(targets.shares, losses.dtype) / SHARES
            losses = share * losses + (1 - share) * self._cross_entropy(targets.partners, logits)
        if targets.teacher_logits is not None:
            distance = self._distance(targets.teacher_logits, logits)
            losses = (1 - self.teacher_weight) * losses + self.teacher_weight * distance
        correct = ops.sum(ops.cast(ops.argmax(logits, axis=-1) == ops.cast(targets.labels, "int32"), "float32"))
        return ops.sum(losses) / images_per_step, correct / images_per_step

    def _cross_entropy(self, labels, logits):
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if self.label_smoothing:
            uniform = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return losses

    def _distance(self, teacher_logits, logits):
        teacher, student = (ops.log_softmax(x / self.temperature, axis=-1) for x in (teacher_logits, logits))
        return self.temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


CROSS_ENTROPY = Loss()
