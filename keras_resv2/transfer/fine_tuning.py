"""Fine-tuning: the classifier first, then the body, with batch normalisation as it was.

The three mistakes that it avoids: batch normalisation whose statistics are those of few, new pictures;
pixels on another scale than the weights were trained with (the models here take 0 to 255 and normalise
inside); and a random classifier whose gradients undo the body before it has learned anything itself.
"""

import contextlib
import math
import numbers
import warnings
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.models.pixels import takes_raw_pixels
from keras_resv2.transfer.augmentation import AugmentedBatches, batch_count, check_augment
from keras_resv2.transfer.classifier import (
    RATE,
    Features,
    check_classifier,
    class_factors,
    class_weights,
    classifier_of,
    compile_classifier,
    fit_classifier,
)
from keras_resv2.transfer.freezing import flat_layers, set_batch_norm
from keras_resv2.transfer.given import Expected, open_pictures, sample_weights
from keras_resv2.transfer.measuring import logits_of, measured
from keras_resv2.transfer.rates import DiscriminativeAdam, rate_factors
from keras_resv2.transfer.report import Report

STEPS, EPOCHS = 1000, (10, 60)  # about so many steps, within so many epochs
LEAST_WARMUP = 20  # steps: Adam's first ones, whose averages are of few gradients, go too far at the full rate
RATE_AFTER = 0.01  # of the learning rate: what the model is left compiled with
RATES = (0.003, 0.0003)  # for images far from those that the network knows, and near ones


class FineTuned(NamedTuple):
    """What `fine_tune` returns.

    Attributes:
        model: with the best weights.
        history: list of dictionaries, one an epoch: phase ("head" or "body"), epoch, train_loss,
            train_error (percent, of augmented images), validation_loss, validation_error (percent) and its 95 %
            interval (validation_error_low, validation_error_high; Wilson 1927), learning_rate (the highest one),
            seconds; and best, whether these are the weights that the model has now.
    """

    model: keras.Model
    history: list


def fine_tune(
    model, train, validation=0.2, *,
    epochs=None, learning_rate=None, rate_decay=0.8, warmup=0.1, batch_norm="frozen", batch_size=32,
    class_weight=None, augment=("crop", "flip"), patience=None, callbacks=(), seed=0, verbose=1,
):  # fmt: skip
    """Trains a pretrained network on other images.

    First the classifier alone, on what the frozen body makes of the images (computed once); then, for
    `epochs`, all layers that are trainable: Adam, with a learning rate that grows during the warm-up, falls to
    zero along a cosine, and is the lower the closer a layer is to the pixels. The weights that do best on the
    validation images are kept: of those whose error is within one standard error of the lowest (Breiman et al. 1984,
    section 3.4.3) those with the lowest loss, because the fewest mistakes of some dozen images are luck; and
    the classifier alone, unless the others make fewer mistakes, or as many with a lower loss.
    Layers that were frozen before the call (`freeze`) stay so: a network that is frozen up to its classifier is a
    linear probe.

    Args:
        model: `keras.Model` from pixels to class scores that ends with a `Dense` layer, as
            ``from_pretrained(name, classes=5)`` gives it. It is trained in place, and left compiled with a
            hundredth of the learning rate, so that `fit` can go on.
        train: ``(images, labels)`` or ``(images, labels, weights)``: ``(n, height, width, 3)`` on the scale that the
            model takes (0 to 255); class numbers ``(n,)``, or rows ``(n, classes)`` that are one-hot or each class's
            share (mixup, smoothing, distillation); and factors of the loss ``(n,)``. Batches of such
            (`tf.data.Dataset`, `keras.utils.PyDataset`, a PyTorch `DataLoader`, a list) that end and begin again; or
            a folder with a folder of images per class (`read_folder`).
        validation: the same, or the share of `train` to put aside (each class alike), or None: then the
            last weights are kept.
        epochs: of the second part, for each learning rate, at most. 0: the classifier alone. None: about 1,000
            steps, but 10 to 60 epochs.
        learning_rate: highest one, of the classifier in the second part. None: 0.003; and where the classifier
            alone does as well on the validation images, because the network knows such images already, once more
            with 0.0003. Without validation images 0.0003.
        rate_decay: factor from one stage to the one before it (arXiv 1801.06146, section 3.2, has 1 / 2.6).
        warmup: share of the steps in which the learning rate grows from zero; at least 20 steps, or half of
            them all.
        batch_norm: "frozen": moving statistics, scale and offset stay as they are, now and in a later `fit`
            (``unfreeze(model, batch_norm=True)`` ends that); or "trained".
        batch_size: images per step; batches that are given have their own. Where devices share a batch (a
            `tf.distribute` strategy, `keras.distribution.DataParallel`) it is rounded down to a multiple of them.
        class_weight: factors of the loss, a dictionary by class number or a list; "balanced" makes all classes
            count alike. Those of single images multiply them.
        augment: of "crop" and "flip"; leave "flip" out for digits and text. Batches that are given are
            not augmented, and keep their order.
        patience: epochs without fewer mistakes after which training stops, counted from the end of the
            warm-up; None for half of `epochs`.
        callbacks: a Keras callback or a list of them, for the second part. The learning rate has its schedule:
            `ReduceLROnPlateau` and `LearningRateScheduler` are refused.
        seed: of splitting, order and augmentation.
        verbose: 0 silent, 1 a line per epoch.

    Returns:
        `FineTuned`: ``(model, history)``.

    Raises:
        ValueError: the pictures do not fit the model, labels are outside its classes, or an argument is
            none of its choices; before anything is trained.
        TypeError: `train` is none of what it may be.
        FloatingPointError: the loss is no longer a number; the model has the best weights so far.

    Example:

    >>> import keras_resv2
    >>> model = keras_resv2.from_pretrained("preact_resnet20-cifar10", classes=5)
    >>> model, history = keras_resv2.fine_tune(model, (images, labels))  # doctest: +SKIP
    """
    expected = _expected_by(model)
    _check_numbers(epochs=epochs, rate_decay=rate_decay, batch_size=batch_size)
    if learning_rate is not None:
        _check_numbers(epochs=None, batch_size=1, learning_rate=learning_rate)
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup} must be a share of the steps, from 0 to 1.")
    check_choice("batch_norm", batch_norm, ("frozen", "trained"))
    factors = class_factors(class_weight, expected.classes)
    callbacks, augment = _check_callbacks(callbacks), check_augment(augment)
    train, validation = open_pictures(train, validation, expected, seed)
    if verbose and train.class_names:
        print(f"classes: {', '.join(train.class_names)}", flush=True)
    with _devices_of(model):
        return _fine_tune(
            model, train, validation, factors, epochs, learning_rate, rate_decay, warmup, batch_norm, batch_size,
            augment, patience, callbacks, seed, verbose,
        )  # fmt: skip


def _fine_tune(
    model, train, validation, factors, epochs, learning_rate, rate_decay, warmup, batch_norm, batch_size,
    augment, patience, callbacks, seed, verbose,
):  # fmt: skip
    classifier, features = classifier_of(model), Features(model, train, validation)
    factors = class_weights(factors, features.labels, classifier.units, features.weights)

    def validate():
        images, labels, weights, _ = features.through(validation)
        return measured(logits_of(classifier, images), labels, weights)

    report = Report(model, validation and validate, verbose)
    if classifier.trainable:
        fit_classifier(classifier, features, factors, seed)
        found = measured(logits_of(classifier, features.train), features.labels, features.weights)
        report.learning_rate = RATE
        report.add("head", found.loss, found.error)
    if batch_norm == "frozen":
        set_batch_norm(model.layers, trainable=False)
        if keras.backend.backend() == "jax":  # its program knows which variables train
            features.body.make_predict_function(force=True)

    def train_body(rate, epochs, callbacks):
        if train.in_memory:
            labels = features.labels  # in the order of the images, and all of one kind
            weights = sample_weights(labels, train.weights, factors)
            batches, steps = AugmentedBatches(train.images, labels, batch_size, augment, seed, weights), None
        else:
            batches, steps = train.for_fit(count, factors, features.rows)
        warm = _warmup_steps(warmup, epochs * count)
        report.patient_until = math.ceil(warm / count)
        adam = DiscriminativeAdam(_schedule(rate, warm, epochs * count), factors=rate_factors(model, rate_decay))
        compile_classifier(model, adam, features.rows)
        model.fit(batches, steps_per_epoch=steps, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False)

    try:
        if epochs != 0 and len(model.trainable_variables) > len(classifier.trainable_variables):
            count = batch_count(len(train.labels), batch_size) if train.in_memory else features.batches
            epochs = int(np.clip(math.ceil(STEPS / count), *EPOCHS)) if epochs is None else epochs
            report.patience = math.ceil(epochs / 2) if patience is None else patience
            rates = [learning_rate] if learning_rate else RATES if validation else RATES[1:]
            start = model.get_weights()
            for report.learning_rate in rates:
                model.set_weights(start)
                with contextlib.suppress(*() if report.learning_rate == rates[-1] else (FloatingPointError,)):
                    train_body(report.learning_rate, epochs, [report, *callbacks])
                if not report.only_the_classifier():
                    break
    finally:  # whatever ended it, an interruption too: a model that works, and can be saved
        report.restore()
        after = keras.optimizers.Adam(RATE_AFTER * (learning_rate or RATES[0]))
        compile_classifier(model, after, features.rows)
        model.optimizer.build(model.trainable_variables)  # so that a saved model opens without a warning
    if report.only_the_classifier():
        warnings.warn(
            "no epoch of the body makes fewer mistakes on the validation images than the classifier alone, so only the "
            "classifier is trained: more images may tell.",
            stacklevel=3,
        )
    return FineTuned(model, report.history)


@contextlib.contextmanager
def _devices_of(model):
    """The `tf.distribute` strategy that a model was made in, where it has several replicas."""
    strategy = getattr(model, "distribute_strategy", None) if keras.backend.backend() == "tensorflow" else None
    if strategy is None or strategy.num_replicas_in_sync == 1:
        yield
    else:
        with strategy.scope():
            yield


def _check_callbacks(callbacks):
    """Callbacks as a list; raises where one is no callback, or sets the learning rate."""
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or ())
    for callback in callbacks:
        name = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback) or isinstance(callback, keras.callbacks.CallbackList):
            raise TypeError(f"callbacks must be a keras.callbacks.Callback or a list of them, not a {name}.")
        if isinstance(callback, (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)):
            raise ValueError(
                f"{name} sets the learning rate, and fine_tune has a schedule of its own: leave it out, and give "
                "learning_rate and warmup instead."
            )
        if type(callback).__name__ == "SwapEMAWeights":
            raise ValueError(f"{name} needs an optimizer with use_ema=True, and fine_tune makes its own: leave it out.")
    return callbacks


def _expected_by(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, as from_pretrained(name, classes=5) gives it, not {model!r}.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"model {model.name!r} must have one input, pictures (n, height, width, 3).")
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("fine_tune takes pictures in channels_last: keras.config.set_image_data_format sets it.")
    if len(model.outputs) != 1:
        raise ValueError(f"model {model.name!r} has {len(model.outputs)} outputs: fine_tune trains one classifier.")
    check_classifier(model)
    for layer in flat_layers(model):
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"layer {layer.name!r} is quantized ({layer.quantization_mode}) and cannot be trained: fine-tune the "
                "network before quantize()."
            )
    return Expected(tuple(model.inputs[0].shape[1:]), classifier_of(model).units, takes_raw_pixels(model))


def _check_numbers(epochs, batch_size, **positive):
    for name, value in positive.items():
        if not isinstance(value, numbers.Real) or not value > 0:
            raise ValueError(f"{name}={value!r} must be a number above 0.")
    for name, value, least in (("epochs", 0 if epochs is None else epochs, 0), ("batch_size", batch_size, 1)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number, at least {least}.")


def _warmup_steps(share, steps):
    """At least `LEAST_WARMUP`, at most half of the steps where that is more than asked for; 0 for a share of 0."""
    asked = min(round(share * steps), steps - 1)
    return max(asked, min(LEAST_WARMUP, steps // 2)) if share else 0


def _schedule(rate, warm, steps):
    """From zero to `rate` in `warm` steps, then to zero along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else rate, max(1, steps - warm), warmup_target=rate if warm else None, warmup_steps=warm
    )
