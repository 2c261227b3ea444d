"""Fine-tuning: first the classifier, then the backbone, with frozen batch normalization.

It avoids three mistakes: batch statistics of few, new images; pixels on another scale than that of the pretrained
weights (the models here take 0 to 255 and normalize inside); and a random classifier whose gradients ruin the
backbone before the classifier has learned anything.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice, check_count, warn_caller
from keras_resv2.transfer import cross_validation
from keras_resv2.transfer.augmentation import AugmentedBatches, batch_count, check_augment
from keras_resv2.transfer.body import BodyTraining, warmup_epochs
from keras_resv2.transfer.callbacks import BestWeights
from keras_resv2.transfer.checks import check_callbacks, check_positive, input_spec_of
from keras_resv2.transfer.class_weights import balance, check_class_weight
from keras_resv2.transfer.freezing import check_batch_norm_trains, set_batch_norm
from keras_resv2.transfer.head import RATE, Features, classifier_of, compile_classifier, fit_classifier
from keras_resv2.transfer.input_spec import loss_weights
from keras_resv2.transfer.inputs import open_inputs
from keras_resv2.transfer.results import evaluate_logits, logits_of

STEPS, EPOCHS = 1000, (10, 60)  # about so many steps, within so many epochs
RATE_AFTER = 0.01  # of the learning rate: the model is left compiled with it
RATES = (0.003, 0.0003)  # for images far from those of the pretrained weights, and near ones


class _ModelAndHistory(NamedTuple):
    model: keras.Model
    history: list


class FineTuned(_ModelAndHistory):
    """What `fine_tune` returns: the pair ``(model, history)``, with the names of the classes.

    Attributes:
        model: the model, with the best weights.
        history: list of dictionaries, one per epoch: phase ("head", "folds" or "body"), epoch, train_loss, train_error
            (percent, of augmented images), validation_loss, validation_error (percent) and its 95 % interval
            (validation_error_low, validation_error_high; Wilson 1927), learning_rate (the highest one), seconds; and
            best, whether the model has the weights of this row. After a cross-validation there is also a row of phase
            "folds" for the classifier alone and for each learning rate that was tried: the same values for all folds
            together, with the images that were held out in place of the validation images.
        class_names: names of the classes in the order of the outputs, if the training images were a folder; else None.
    """

    class_names: tuple[str, ...] | None = None


def fine_tune(
    model: keras.Model,
    train: Any,
    validation: Any = 0.2,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    rate_decay: float = 0.8,
    warmup: float = 0.1,
    batch_norm: str = "frozen",
    batch_size: int = 32,
    class_weight: str | dict[int, float] | Sequence[float] | None = None,
    augment: str | Sequence[str] | None = ("crop", "flip"),
    patience: int | None = None,
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = (),
    seed: int = 0,
    verbose: int = 1,
) -> FineTuned:
    """Trains a pretrained network on other images.

    First the classifier alone is trained, on features that the frozen backbone computes once. Then all trainable layers
    are trained for `epochs`: by Adam, with a learning rate that rises during the warm-up, falls to zero along a cosine,
    and is lower for layers closer to the pixels. The best weights on the validation images are kept: among the epochs
    whose error is within one standard error of the lowest (Breiman et al. 1984, section 3.4.3), the one with the lowest
    loss, because with only a few dozen images the lowest error is partly due to chance.

    The classifier alone is kept unless the other weights make fewer mistakes, or as many with a lower loss. Fewer than
    100 validation images are too few to decide this, or to choose an epoch. Then a cross-validation decides: each third
    of the training images is held out in turn, and classifier and backbone are trained on the others, for a third of
    the steps (at least 100, or all if there are fewer). If the backbone does better on the images held out, it is
    trained on all training images for all epochs, and the last weights are kept, unless the classifier alone does
    better on the images held out and the validation images together. Batches from the caller are not divided into
    folds: the validation images alone decide.

    Layers that were frozen before (`freeze`) stay frozen: a network that is frozen up to its classifier becomes a
    linear probe.

    Args:
        model: a model from pixels to class scores that ends with a `Dense` layer, such as
            ``from_pretrained(name, classes=5)``. It is trained in place, and left compiled with a hundredth of the
            learning rate, so that `fit` can continue.
        train: ``(images, labels)`` or ``(images, labels, weights)``: images ``(n, height, width, 3)`` on the scale of
            the model (0 to 255); class indices ``(n,)``, or class probabilities ``(n, classes)``, one-hot or soft
            (mixup, label smoothing, distillation); and loss weights ``(n,)``. Or batches of these
            (`tf.data.Dataset`, `keras.utils.PyDataset`, a PyTorch `DataLoader`, a list) that end and can be iterated
            again; or a folder with a folder of images per class (`read_folder`).
        validation: the same; or the fraction of `train` to hold out (of each class); or None: then the last weights are
            kept.
        epochs: maximum number of epochs of the backbone's training, for each learning rate. 0 trains only the
            classifier. None: about 1,000 steps, but 10 to 60 epochs.
        learning_rate: highest learning rate while the backbone is trained, which is that of the classifier; layers
            before it have lower ones. None: 0.003, followed by 0.0003 if that is no better than the classifier alone;
            without validation images only 0.0003.
        rate_decay: factor of the learning rate from one stage to the one before (arXiv 1801.06146, section 3.2, uses
            1 / 2.6).
        warmup: fraction of the steps in which the learning rate rises from zero; at least 20 steps, or half of all.
        batch_norm: "frozen": moving statistics, scale and offset stay as they are, now and in a later `fit` (until
            ``unfreeze(model, batch_norm=True)``); or "trained", which requires batch normalization that is not frozen.
        batch_size: images per step; batches from the caller keep their size. If devices share a batch (a
            `tf.distribute` strategy, `keras.distribution.DataParallel`), it is rounded down to a multiple of their
            number.
        class_weight: loss weights, a dictionary by class index or a list; "balanced" gives all classes the same weight.
            They multiply the weights of single images.
        augment: any of "crop" and "flip"; leave out "flip" for digits and text. Batches from the caller are not
            augmented and keep their order.
        patience: epochs without fewer mistakes after which training stops, counted from the end of the warm-up; None
            for half of `epochs`, and for all of them after a cross-validation.
        callbacks: a Keras callback or a list of them, for the training of the backbone, not for cross-validation.
            `ReduceLROnPlateau` and `LearningRateScheduler` are rejected, because the learning rate follows its own
            schedule.
        seed: random seed of the split, the folds, the order of images and the augmentation.
        verbose: 0 silent; 1 or 2 a line per epoch (there is no progress bar).

    Returns:
        `FineTuned`: ``(model, history)``.

    Raises:
        ValueError: if the images do not fit the model, labels are outside its classes, a folder has another number of
            classes than the model, or an argument is invalid; before anything is trained.
        TypeError: if `model`, `train`, `validation` or `callbacks` have another type.
        FileNotFoundError: if a folder does not exist.
        FloatingPointError: if the loss is NaN or infinite; the model has the best weights so far.

    Example:

    >>> import keras_resv2
    >>> model = keras_resv2.from_pretrained("preact_resnet20-cifar10", classes=5)
    >>> model, history = keras_resv2.fine_tune(model, (images, labels))  # doctest: +SKIP
    """
    spec = input_spec_of(model)
    check_positive(rate_decay=rate_decay, **({} if learning_rate is None else {"learning_rate": learning_rate}))
    for name, number in (("epochs", epochs), ("patience", patience)):
        if number is not None:
            check_count(name, number, least=0)
    check_count("batch_size", batch_size)
    check_count("seed", seed, least=0)
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup} must be a fraction of the steps, from 0 to 1.")
    check_choice("batch_norm", batch_norm, ("frozen", "trained"))
    factors = check_class_weight(class_weight, spec.classes)
    callbacks, augment = check_callbacks(callbacks), check_augment(augment)
    if batch_norm == "trained" and epochs != 0:
        check_batch_norm_trains(model)
    train, validation = open_inputs(train, validation, spec, seed)
    if verbose and train.class_names:
        print(f"classes: {', '.join(train.class_names)}", flush=True)
    with _strategy_of(model):
        classifier, features = classifier_of(model), Features(model, train, validation)
        factors = balance(factors, features.labels, classifier.units, features.weights)
        training = BodyTraining(model, rate_decay, warmup, batch_size, augment, seed, features.soft)
        callback = BestWeights(model, validation and _validate(classifier, features, validation), verbose)
        initial = classifier.get_weights()
        if classifier.trainable:
            weights = loss_weights(features.labels, features.weights, factors)
            fit_classifier(classifier, features.train, features.labels, weights, seed)
            results = evaluate_logits(logits_of(classifier, features.train), features.labels, features.weights)
            callback.learning_rate = RATE
            callback.add("head", results.loss, results.error)
        if batch_norm == "frozen":
            set_batch_norm(model.layers, trainable=False)
            if keras.backend.backend() == "jax":  # its compiled function knows which variables train
                features.body.make_predict_function(force=True)
        try:
            if epochs != 0 and len(model.trainable_variables) > len(classifier.trainable_variables):
                rates = (learning_rate,) if learning_rate else RATES if validation else RATES[1:]
                count = batch_count(len(train.labels), batch_size) if train.in_memory else features.batches
                epochs = int(np.clip(math.ceil(STEPS / count), *EPOCHS)) if epochs is None else epochs
                folds = classifier.trainable and cross_validation.is_needed(train, validation)
                callback.patience = (epochs if folds else math.ceil(epochs / 2)) if patience is None else patience
                callback.patient_until = warmup_epochs(warmup, epochs, count)
                if folds:
                    folds = cross_validation.CrossValidation(training, train, features, factors, epochs * count)
                    rates = cross_validation.choose_learning_rates(folds, initial, rates, callback)
                _fit_body(training, train, features, factors, rates, epochs, count, callback, callbacks)
        finally:  # whatever ended it, an interruption too: a model that works, and can be saved
            callback.restore()
            after = keras.optimizers.Adam(RATE_AFTER * (callback.kept_rate() or learning_rate or RATES[0]))
            compile_classifier(model, after, features.soft)
            model.optimizer.build(model.trainable_variables)  # so that a saved model opens without a warning
    if callback.only_the_classifier():
        warn_caller(
            "training the backbone makes no fewer mistakes on held-out images than the classifier alone, so only the "
            "classifier is trained: more images may make a difference.",
        )
    result = FineTuned(model, callback.history)
    result.class_names = tuple(train.class_names) if train.class_names else None
    return result


def _validate(classifier, features, validation):
    """Function that returns the results of the model's present weights on the validation images."""

    def validate():
        computed, labels, weights, _ = features.compute(validation)
        return evaluate_logits(logits_of(classifier, computed), labels, weights)

    return validate


def _fit_body(training, train, features, class_weight, rates, epochs, count, callback, callbacks):
    """Trains the backbone at each learning rate, from the same weights, until it beats the classifier alone."""
    start = training.model.get_weights()
    for rate in rates:
        training.model.set_weights(start)
        if train.in_memory:
            labels = features.labels  # in the order of the images, all of one format
            weights = loss_weights(labels, train.weights, class_weight)
            data = train.images, labels, training.batch_size, training.augment, training.seed, weights
            batches, steps = AugmentedBatches(*data), None
        else:
            batches, steps = train.for_fit(count, class_weight, features.soft)
        callback.learning_rate = rate
        training.compile(rate, epochs * count)
        with contextlib.suppress(*() if rate == rates[-1] else (FloatingPointError,)):
            training.fit(batches, epochs, steps, [callback, *callbacks])
        if callback.kept_rate() is not None:
            break


@contextlib.contextmanager
def _strategy_of(model):
    """The scope of the `tf.distribute` strategy that a model was built in, if it has several replicas."""
    strategy = getattr(model, "distribute_strategy", None) if keras.backend.backend() == "tensorflow" else None
    if strategy is None or strategy.num_replicas_in_sync == 1:
        yield
    else:
        with strategy.scope():
            yield
