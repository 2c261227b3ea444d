"""Cross-validation of what to train, the classifier alone or the backbone too, where validation images are few.

Of 20 validation images five mistakes more or fewer are luck. All training images, held out in turn, tell more. The
training of each fold is short: all folds take about as many steps as one training, or 300 if that is more.
"""

import math

import keras
import numpy as np

from keras_resv2.transfer.augmentation import AugmentedBatches, batch_count
from keras_resv2.transfer.body import BodyTraining
from keras_resv2.transfer.callbacks import BestWeights
from keras_resv2.transfer.head import RATE, Features, classifier_of, fit_classifier
from keras_resv2.transfer.input_spec import loss_weights
from keras_resv2.transfer.inputs import LabelledImages
from keras_resv2.transfer.results import Results, concatenate, evaluate_logits, logits_of

FOLDS = 3
FEW = 100  # validation images; of as many an error of 10 % has a standard error of 3 points
LEAST_STEPS = 100  # of a fold, unless the training itself has fewer: with 40 a learning rate of 0.003 has not settled


def is_needed(train: LabelledImages, validation: LabelledImages | None) -> bool:
    """Whether there are too few validation images to decide by, and training images to hold out instead.

    Args:
        train: training images. Batches from the caller cannot be divided into folds.
        validation: validation images; None if there is nothing to decide.
    """
    few = validation is not None and validation.labels is not None and len(validation.labels) < FEW
    return few and train.labels is not None and len(train.labels) >= FOLDS


def assign_folds(classes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each image, from 0: at random, with equally many images of each class as far as possible.

    Args:
        classes: class index of each image ``(n,)``.
        folds: how many.
        seed: of the order.

    Returns:
        int ``(n,)``.

    Example:

    >>> folds = assign_folds(np.array([0, 0, 0, 1, 1, 1]), 3, seed=0)
    >>> sorted(folds[:3].tolist()), sorted(folds[3:].tolist())
    ([0, 1, 2], [0, 1, 2])
    """
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]  # class after class
    assigned = np.empty(len(classes), int)
    assigned[order] = np.arange(len(classes)) % folds
    return assigned


class CrossValidation:
    """Trains without each fold in turn, and predicts the images of that fold.

    Args:
        training: of the backbone, with its model. The model gets other weights.
        train: training images in memory.
        features: `Features` of these images.
        class_weight: loss weights ``(classes,)``, or None.
        steps: of a training on all training images.
    """

    def __init__(
        self,
        training: BodyTraining,
        train: LabelledImages,
        features: Features,
        class_weight: np.ndarray | None,
        steps: int,
    ):
        self._training, self._train, self._features = training, train, features
        self._classifier, self._start = classifier_of(training.model), training.model.get_weights()
        self._weights = loss_weights(features.labels, train.weights, class_weight)
        folds = assign_folds(train.class_indices, FOLDS, training.seed)
        self._folds = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS)]
        self._steps = max(steps // FOLDS, min(steps, LEAST_STEPS))
        self._classifiers = []  # weights of the classifier of each fold

    def train_classifiers(self, initial: list[np.ndarray]) -> tuple[float, float, Results]:
        """Trains the classifier alone.

        Args:
            initial: weights of the classifier before it was trained on all images.

        Returns:
            ``(loss, error, results)``: of the training images, means over the folds, error as a share; and `Results`
            on the images held out.
        """
        seen, held_out = [], []
        for train, test in self._folds:
            self._classifier.set_weights(initial)
            arrays = self._features.train[train], self._features.labels[train], _of(self._weights, train)
            fit_classifier(self._classifier, *arrays, self._training.seed)
            self._classifiers.append(self._classifier.get_weights())
            seen.append(self._evaluate(self._features.train[train], train))
            held_out.append(self._evaluate(self._features.train[test], test))
        seen = concatenate(seen)
        return seen.loss, seen.error, concatenate(held_out)

    def train_bodies(self, learning_rate: float) -> tuple[float, float, Results]:
        """Trains the backbone too, after `train_classifiers`.

        Args:
            learning_rate: the highest one.

        Returns:
            ``(loss, error, results)``: of the training images in the last epoch, means over the folds, error as a
            share; and `Results` on the images held out.
        """
        model, batch_size = self._training.model, min(self._training.batch_size, min(len(t) for t, _ in self._folds))
        counts = [batch_count(len(train), batch_size) for train, _ in self._folds]
        epochs = [math.ceil(self._steps / count) for count in counts]
        self._training.compile(learning_rate, self._steps)
        model.optimizer.build(model.trainable_variables)
        initial = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.optimizer.variables]
        logs, held_out = [], []
        for fold, (train, test) in enumerate(self._folds):
            model.set_weights(self._start)
            self._classifier.set_weights(self._classifiers[fold])
            for variable, value in zip(model.optimizer.variables, initial, strict=True):  # compiled once for all folds
                variable.assign(value)
            batches = AugmentedBatches(
                self._train.images[train],
                self._features.labels[train],
                batch_size,
                self._training.augment,
                self._training.seed,
                _of(self._weights, train),
            )
            history = self._training.fit(batches, epochs[fold]).history
            logs.append((history["loss"][-1], 1 - history["accuracy"][-1]))
            features, *_ = self._features.compute(self._train.subset("train", test))
            held_out.append(self._evaluate(features, test))
        return *np.mean(logs, axis=0), concatenate(held_out)

    def restore(self) -> None:
        """Gives the model the weights that it had before the folds."""
        self._training.model.set_weights(self._start)

    def _evaluate(self, features, positions):
        labels, weights = self._features.labels[positions], _of(self._features.weights, positions)
        return evaluate_logits(logits_of(self._classifier, features), labels, weights)


def choose_learning_rates(
    folds: CrossValidation, initial: list[np.ndarray], learning_rates: tuple[float, ...], callback: BestWeights
) -> tuple[float, ...]:
    """The learning rate to train the backbone at, a tuple of one; an empty one for the classifier alone.

    Args:
        folds: the cross-validation.
        initial: weights of the classifier before it was trained on all images.
        learning_rates: to choose from, in the order to try them.
        callback: gets a row of the history for each choice, and the results that decided.
    """
    chosen = ()
    loss, error, alone = folds.train_classifiers(initial)
    callback.add_folds(RATE, loss, error, alone)
    for learning_rate in learning_rates:
        loss, error, body = folds.train_bodies(learning_rate)
        callback.add_folds(learning_rate, loss, error, body)
        if body.beats(alone):
            callback.trust_folds(body, alone)
            chosen = (learning_rate,)
            break
    folds.restore()
    return chosen


def _of(array, positions):
    return None if array is None else array[positions]
