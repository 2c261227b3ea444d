"""Fine-tuning: the classifier first, then the body, with batch normalisation as it was.

The three mistakes that it avoids: batch normalisation whose statistics are those of few, new pictures;
pixels on another scale than the weights were trained with (the models here take 0 to 255 and normalise
inside); and a random classifier whose gradients undo the body before it has learned anything itself.
"""

import math
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.choices import check_choice
from keras_resv2.transfer.batches import AugmentedBatches, check_augment, open_pictures
from keras_resv2.transfer.classifier import Features, class_weights, classifier_of, compile_classifier, fit_classifier
from keras_resv2.transfer.freezing import set_batch_norm, trainable_kept
from keras_resv2.transfer.rates import DiscriminativeAdam, rate_factors
from keras_resv2.transfer.report import Report

STEPS, EPOCHS = 1000, (10, 60)  # about so many steps, within so many epochs


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
    class_weight=None, augment=("crop", "flip"), patience=None, seed=0, verbose=1,
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
            ``from_pretrained(name, classes=5)`` gives it. It is trained in place, and left compiled.
        train: ``(images, labels)``: ``(n, height, width, 3)`` on the scale that the model takes (0 to 255)
            and class numbers ``(n,)`` or one-hot rows; batches of such pairs (`tf.data.Dataset`,
            `keras.utils.PyDataset`, a PyTorch `DataLoader`) that end; or a folder with a folder of pictures
            per class (`read_folder`).
        validation: the same, or the share of `train` to put aside (each class alike), or None: then the
            last weights are kept.
        epochs: of the second part, at most. 0: the classifier alone. None: about 1,000 steps, but 10 to 60 epochs.
        learning_rate: highest one, of the classifier in the second part.
        rate_decay: factor from one stage to the one before it (arXiv 1801.06146, section 3.2, has 1 / 2.6).
        warmup: share of the steps in which the learning rate grows from zero.
        batch_norm: "frozen": moving statistics, scale and offset stay as they are; or "trained".
        batch_size: pictures per step; batches that are given have their own.
        class_weight: factors of the loss by class number; "balanced" makes all classes count alike.
        augment: of "crop" and "flip"; leave "flip" out for digits and text. Batches that are given are
            not augmented, and keep their order.
        patience: epochs without fewer mistakes after which training stops; None for half of `epochs`.
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
    check_choice("batch_norm", batch_norm, ("frozen", "trained"))
    classifier, augment = classifier_of(model), check_augment(augment)
    train, validation = open_pictures(train, validation, _image_shape(model), seed)
    features = Features(model, train, validation)
    report = Report(model, features.validation and len(features.validation[1]), verbose)
    weights = class_weights(class_weight, features.labels, classifier.units)
    if classifier.trainable:
        report.add("head", fit_classifier(classifier, features, weights, seed))
    with trainable_kept(model):
        if batch_norm == "frozen":
            set_batch_norm(model.layers, trainable=False)
        if epochs != 0 and len(model.trainable_variables) > len(classifier.trainable_variables):
            batches, count = train.images, features.batches
            if train.in_memory:
                batches = AugmentedBatches(train.images, train.labels, batch_size, augment, seed)
                count = len(batches)
            epochs = int(np.clip(math.ceil(STEPS / count), *EPOCHS)) if epochs is None else epochs
            report.patience = math.ceil(epochs / 2) if patience is None else patience
            schedule = _schedule(learning_rate, warmup, epochs * count)
            compile_classifier(model, DiscriminativeAdam(schedule, factors=rate_factors(model, rate_decay)))
            model.fit(
                batches, validation_data=validation and validation.for_fit(), epochs=epochs, class_weight=weights,
                callbacks=[report], verbose=0, shuffle=False,
            )  # fmt: skip
    report.restore()
    compile_classifier(model, keras.optimizers.Adam(learning_rate))
    model.optimizer.build(model.trainable_variables)  # so that a saved model opens without a warning
    return FineTuned(model, report.history)


def _image_shape(model):
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"model {model.name!r} must have one input, pictures (n, height, width, 3).")
    return tuple(model.inputs[0].shape[1:])


def _schedule(rate, warmup, steps):
    """From zero to `rate` in the warm-up, then to zero along a cosine."""
    warm = min(round(warmup * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else rate, max(1, steps - warm), warmup_target=rate if warm else None, warmup_steps=warm
    )
