"""Fine-tuning: the classifier first, then the body, with batch normalisation as it was.

The three mistakes that it avoids: batch normalisation whose statistics are those of few, new pictures;
pixels on another scale than the weights were trained with (the models here take 0 to 255 and normalise
inside); and a random classifier whose gradients undo the body before it has learned anything itself.
"""

import math
import numbers
import warnings
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.choices import check_choice
from keras_resv2.transfer.augmentation import AugmentedBatches, check_augment
from keras_resv2.transfer.classifier import (
    Features,
    check_class_weight,
    class_weights,
    classifier_of,
    compile_classifier,
    fit_classifier,
)
from keras_resv2.transfer.freezing import flat_layers, set_batch_norm
from keras_resv2.transfer.given import Expected, open_pictures
from keras_resv2.transfer.rates import DiscriminativeAdam, rate_factors
from keras_resv2.transfer.report import Report

STEPS, EPOCHS = 1000, (10, 60)  # about so many steps, within so many epochs
LEAST_WARMUP = 20  # steps: Adam's first ones, whose averages are of few gradients, go too far at the full rate
RATE_AFTER = 0.01  # of the learning rate: what the model is left compiled with


class FineTuned(NamedTuple):
    """What `fine_tune` returns.

    Attributes:
        model: with the best weights.
        history: list of dictionaries, one an epoch: phase ("head" or "body"), epoch, train_loss,
            train_error (percent, of augmented pictures), validation_loss, validation_error (percent),
            seconds; and best, whether these are the weights that the model has now.
    """

    model: keras.Model
    history: list


def fine_tune(
    model, train, validation=0.2, *,
    epochs=None, learning_rate=0.003, rate_decay=0.8, warmup=0.1, batch_norm="frozen", batch_size=32,
    class_weight=None, augment=("crop", "flip"), patience=None, callbacks=(), seed=0, verbose=1,
):  # fmt: skip
    """Trains a pretrained network on other pictures.

    First the classifier alone, on what the frozen body makes of the pictures (computed once); then, for
    `epochs`, all layers that are trainable: Adam, with a learning rate that grows during the warm-up, falls to
    zero along a cosine, and is the lower the closer a layer is to the pixels. The best weights on the
    validation pictures are kept, those of the classifier alone among them: the latest whose error is within one
    standard error of the lowest (Breiman et al. 1984, section 3.4.3), because the fewest mistakes of some dozen
    pictures are luck, and later weights have a lower learning rate. Layers that were frozen before the call
    (`freeze`) stay so: a network that is frozen up to its classifier is a linear probe.

    Args:
        model: `keras.Model` from pixels to class scores that ends with a `Dense` layer, as
            ``from_pretrained(name, classes=5)`` gives it. It is trained in place, and left compiled with a
            hundredth of the learning rate, so that `fit` can go on.
        train: ``(images, labels)``: ``(n, height, width, 3)`` on the scale that the model takes (0 to 255)
            and class numbers ``(n,)`` or one-hot rows; batches of such pairs (`tf.data.Dataset`,
            `keras.utils.PyDataset`, a PyTorch `DataLoader`, a list) that end and begin again; or a folder
            with a folder of pictures per class (`read_folder`).
        validation: the same, or the share of `train` to put aside (each class alike), or None: then the
            last weights are kept.
        epochs: of the second part, at most. 0: the classifier alone. None: about 1,000 steps, but 10 to 60 epochs.
        learning_rate: highest one, of the classifier in the second part.
        rate_decay: factor from one stage to the one before it (arXiv 1801.06146, section 3.2, has 1 / 2.6).
        warmup: share of the steps in which the learning rate grows from zero; at least 20 steps, or half of
            them all.
        batch_norm: "frozen": moving statistics, scale and offset stay as they are, now and in a later `fit`
            (``unfreeze(model, batch_norm=True)`` ends that); or "trained".
        batch_size: pictures per step; batches that are given have their own.
        class_weight: factors of the loss by class number; "balanced" makes all classes count alike.
        augment: of "crop" and "flip"; leave "flip" out for digits and text. Batches that are given are
            not augmented, and keep their order.
        patience: epochs without fewer mistakes after which training stops, counted from the end of the
            warm-up; None for half of `epochs`.
        callbacks: Keras' ones, for the second part.
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
    _check_numbers(epochs=epochs, learning_rate=learning_rate, rate_decay=rate_decay, batch_size=batch_size)
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup} must be a share of the steps, from 0 to 1.")
    check_choice("batch_norm", batch_norm, ("frozen", "trained"))
    check_class_weight(class_weight, expected.classes)
    classifier, augment = classifier_of(model), check_augment(augment)
    train, validation = open_pictures(train, validation, expected, seed)
    if verbose and train.class_names:
        print(f"classes: {', '.join(train.class_names)}", flush=True)
    features = Features(model, train, validation)
    report = Report(model, features.validation and len(features.validation[1]), verbose)
    weights = class_weights(class_weight, features.labels, classifier.units)
    if classifier.trainable:
        report.add("head", fit_classifier(classifier, features, weights, seed))
    if batch_norm == "frozen":
        set_batch_norm(model.layers, trainable=False)
    try:
        if epochs != 0 and len(model.trainable_variables) > len(classifier.trainable_variables):
            if train.in_memory:
                batches = AugmentedBatches(train.images, train.labels, batch_size, augment, seed)
                count, steps = len(batches), None
            else:
                count = features.batches["train"]
                batches, steps, weights = train.for_fit(count, weights)
            epochs = int(np.clip(math.ceil(STEPS / count), *EPOCHS)) if epochs is None else epochs
            warm = _warmup_steps(warmup, epochs * count)
            report.patience = math.ceil(epochs / 2) if patience is None else patience
            report.patient_until = math.ceil(warm / count)
            schedule = _schedule(learning_rate, warm, epochs * count)
            compile_classifier(model, DiscriminativeAdam(schedule, factors=rate_factors(model, rate_decay)))
            model.fit(
                batches, steps_per_epoch=steps, epochs=epochs, class_weight=weights, callbacks=[report, *callbacks],
                **_validation(validation, features), verbose=0, shuffle=False,
            )  # fmt: skip
    finally:  # whatever ended it, an interruption too: a model that works, and can be saved
        report.restore()
        compile_classifier(model, keras.optimizers.Adam(RATE_AFTER * learning_rate))
        model.optimizer.build(model.trainable_variables)  # so that a saved model opens without a warning
    if report.only_the_classifier():
        warnings.warn(
            "no epoch of the body came close to the classifier alone on the validation pictures, so only the "
            "classifier is trained: try a lower learning_rate, more epochs, or more pictures.",
            stacklevel=2,
        )
    return FineTuned(model, report.history)


def _expected_by(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, as from_pretrained(name, classes=5) gives it, not {model!r}.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"model {model.name!r} must have one input, pictures (n, height, width, 3).")
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("fine_tune takes pictures in channels_last: keras.config.set_image_data_format sets it.")
    raw_pixels = any(isinstance(layer, keras.layers.Rescaling) for layer in flat_layers(model))
    return Expected(tuple(model.inputs[0].shape[1:]), classifier_of(model).units, raw_pixels)


def _check_numbers(epochs, batch_size, **positive):
    for name, value in positive.items():
        if not isinstance(value, numbers.Real) or not value > 0:
            raise ValueError(f"{name}={value!r} must be a number above 0.")
    for name, value, least in (("epochs", 0 if epochs is None else epochs, 0), ("batch_size", batch_size, 1)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number, at least {least}.")


def _validation(validation, features):
    if validation is None:
        return {}
    data, steps, _ = validation.for_fit(features.batches["validation"])
    return {"validation_data": data, "validation_steps": steps}


def _warmup_steps(share, steps):
    """At least `LEAST_WARMUP`, at most half of the steps where that is more than asked for; 0 for a share of 0."""
    asked = min(round(share * steps), steps - 1)
    return max(asked, min(LEAST_WARMUP, steps // 2)) if share else 0


def _schedule(rate, warm, steps):
    """From zero to `rate` in `warm` steps, then to zero along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else rate, max(1, steps - warm), warmup_target=rate if warm else None, warmup_steps=warm
    )
