"""Fine-tuning: the classifier first, then the body, with batch normalisation as it was.

The three mistakes that it avoids: batch normalisation whose statistics are those of few, new pictures;
pixels on another scale than the weights were trained with (the models here take 0 to 255 and normalise
inside); and a random classifier whose gradients undo the body before it has learned anything itself.
"""

import math
import time
from typing import NamedTuple

import keras
import numpy as np

from keras_resv2.choices import check_choice
from keras_resv2.evaluation import filled_up
from keras_resv2.graphs import deep_graph
from keras_resv2.transfer.batches import AT_ONCE, AugmentedBatches, check_augment, open_pictures
from keras_resv2.transfer.freezing import set_batch_norm, trainable_kept
from keras_resv2.transfer.rates import DiscriminativeAdam, rate_factors

STEPS, EPOCHS = 1000, (10, 60)
HEAD_STEPS, HEAD_EPOCHS, HEAD_RATE, HEAD_BATCH = 400, 20, 0.01, 256


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
    features = _Features(model, classifier, train, validation)
    report = _Report(model, features.validation and len(features.validation[1]), verbose)
    weights = _class_weight(class_weight, features.labels, classifier.units)
    if classifier.trainable:
        _fit_classifier(model, classifier, features, weights, report, seed)
    with trainable_kept(model):
        if batch_norm == "frozen":
            set_batch_norm(model.layers, trainable=False)
        if epochs != 0 and len(model.trainable_variables) > len(classifier.trainable_variables):
            batches, count = train.images, features.batches
            if train.in_memory:
                size = min(batch_size, len(train.labels))
                batches = AugmentedBatches(train.images, train.labels, size, augment, seed)
                count = len(batches)
            epochs = int(np.clip(math.ceil(STEPS / count), *EPOCHS)) if epochs is None else epochs
            report.patience = math.ceil(epochs / 2) if patience is None else patience
            schedule = _schedule(learning_rate, warmup, epochs * count)
            factors = rate_factors(model, rate_decay)
            _compile(model, DiscriminativeAdam(schedule, factors=factors))
            model.fit(
                batches, validation_data=validation and validation.for_fit(), epochs=epochs, class_weight=weights,
                callbacks=[report], verbose=0, shuffle=False,
            )  # fmt: skip
    report.restore()
    _compile(model, keras.optimizers.Adam(learning_rate))
    model.optimizer.build(model.trainable_variables)  # so that a saved model opens without a warning
    return FineTuned(model, report.history)


def classifier_of(model):
    """The last layer of a model, a `Dense` one.

    Raises:
        ValueError: it is none.
    """
    layer = model.layers[-1]
    if not isinstance(layer, keras.layers.Dense):
        raise ValueError(
            f"model {model.name!r} ends with {layer.name!r}, not with a Dense layer of class scores: build it with its "
            "classifier, as from_pretrained(name, classes=5) does."
        )
    return layer


def body_of(model):
    """A model without its classifier: from pixels to features ``(n, channels)``. Weights are shared.

    Raises:
        ValueError: the model does not end with a `Dense` layer.
    """
    features = classifier_of(model).input
    with deep_graph():
        return keras.Model(model.input, features)


def _image_shape(model):
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"model {model.name!r} must have one input, pictures (n, height, width, 3).")
    return tuple(model.inputs[0].shape[1:])


class _Features:
    """What the body makes of the pictures, the input of the classifier; and their labels.

    Attributes:
        train, labels, batches: features ``(n, channels)`` and labels ``(n,)`` of the training pictures, and
            in how many batches they came.
        validation: ``(features, labels)``, or None.
    """

    def __init__(self, model, classifier, train, validation):
        body = body_of(model)
        self.train, self.labels, self.batches = _through(body, train, classifier.units, "train")
        self.validation = None
        if validation is not None:
            self.validation = _through(body, validation, classifier.units, "validation")[:2]


def _through(body, pictures, classes, argument):
    features, labels, size = [], [], None
    for images, numbers in pictures.batches():
        if numbers.min() < 0 or numbers.max() >= classes:
            raise ValueError(
                f"{argument}: labels go from {numbers.min()} to {numbers.max()}, the model has {classes} classes: "
                "from_pretrained(name, classes=...) gives it others."
            )
        size = size or len(numbers)
        features.append(np.asarray(body.predict_on_batch(filled_up(images, size)), "float32")[: len(numbers)])
        labels.append(numbers)
    if not labels:
        raise ValueError(f"{argument}: there are no pictures.")
    return np.concatenate(features), np.concatenate(labels), len(labels)


def _fit_classifier(model, classifier, features, class_weight, report, seed):
    """Trains the classifier on features: a logistic regression."""
    inputs = keras.Input(features.train.shape[1:])
    head = keras.Model(inputs, classifier(inputs))
    batches = _Drawn(features.train, features.labels, seed)
    _compile(head, keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(HEAD_RATE, len(batches))))
    head.fit(batches, epochs=1, class_weight=class_weight, shuffle=False, verbose=0)
    logs = head.evaluate(features.train, features.labels, batch_size=AT_ONCE, verbose=0, return_dict=True)
    if features.validation:
        measured = head.evaluate(*features.validation, batch_size=AT_ONCE, verbose=0, return_dict=True)
        logs |= {f"val_{name}": value for name, value in measured.items()}
    report.add("head", logs)


class _Drawn(keras.utils.PyDataset):
    """Batches of features, one shuffled epoch after the other, in one long epoch: Keras pauses after each."""

    def __init__(self, features, labels, seed):
        super().__init__()
        self._features, self._labels = features, labels
        self._size = min(HEAD_BATCH, len(labels))
        per_epoch = len(labels) // self._size
        rng = np.random.default_rng(seed)
        epochs = max(HEAD_EPOCHS, -(-HEAD_STEPS // per_epoch))
        orders = [rng.permutation(len(labels))[: per_epoch * self._size] for _ in range(epochs)]
        self._batches = np.concatenate(orders).reshape(-1, self._size)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._features[self._batches[index]], self._labels[self._batches[index]]


def _class_weight(given, labels, classes):
    if given != "balanced":
        return given
    counts = np.bincount(labels, minlength=classes)
    return {
        label: len(labels) / (np.count_nonzero(counts) * count) if count else 0.0 for label, count in enumerate(counts)
    }


def _schedule(rate, warmup, steps):
    """From zero to `rate` in the warm-up, then to zero along a cosine."""
    warm = min(round(warmup * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else rate, max(1, steps - warm), warmup_target=rate if warm else None, warmup_steps=warm
    )


def _compile(model, optimizer):
    logits = keras.activations.serialize(model.layers[-1].activation) == "linear"
    # XLA's convolutions on a CPU are slower than TensorFlow's own, and take long to compile.
    slow = keras.backend.backend() == "tensorflow" and not _has_accelerator()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(optimizer, loss, weighted_metrics=[], metrics=["accuracy"], jit_compile=False if slow else "auto")


def _has_accelerator():
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))


class _Report(keras.callbacks.Callback):
    """Keeps the history and the best weights, stops when nothing gets better, and says so."""

    def __init__(self, model, pictures, verbose):
        super().__init__()
        self.history, self.patience = [], math.inf
        self._network, self._pictures, self._verbose = model, pictures, verbose  # so many to validate with, or None
        self._lowest, self._weights, self._waited, self._begun = math.inf, None, 0, time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.add("body", logs)
        if not math.isfinite(logs["loss"]):
            self.restore()
            raise FloatingPointError(
                f"the loss is {logs['loss']} after epoch {epoch + 1}: lower learning_rate. The model has the best "
                "weights so far."
            )
        if self._pictures and self._waited >= self.patience:
            self.model.stop_training = True

    def add(self, phase, logs):
        """A row of the history, from what Keras logs of an epoch."""
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
        if error <= self._lowest + self._standard_error() and math.isfinite(row["train_loss"]):
            self._weights = self._network.get_weights()
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

    def restore(self):
        """Gives the model the best weights."""
        if self._weights is not None:
            self._network.set_weights(self._weights)


def _line(row):
    text = f"{row['phase']} {row['epoch']:3d}: loss {row['train_loss']:.4f}, error {row['train_error']:.2f} %"
    if "validation_error" in row:
        text += f"; validation loss {row['validation_loss']:.4f}, error {row['validation_error']:.2f} %"
    return f"{text} ({row['seconds']:.0f} s)"
