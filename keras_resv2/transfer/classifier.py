"""The classifier at the end of a network, and its training on the features of the frozen body."""

import keras
import numpy as np

from keras_resv2.evaluation import predictions
from keras_resv2.graphs import deep_graph
from keras_resv2.transfer.batches import AT_ONCE

STEPS, EPOCHS, RATE, BATCH = 400, 20, 0.01, 256  # at least so many steps and epochs


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


class Features:
    """What the body makes of the pictures, the input of the classifier; and their labels.

    Attributes:
        train, labels, batches: features ``(n, channels)`` and labels ``(n,)`` of the training pictures, and
            in how many batches they came.
        validation: ``(features, labels)``, or None.
    """

    def __init__(self, model, train, validation):
        body, classes = body_of(model), classifier_of(model).units
        self.train, self.labels, self.batches = _through(body, train, classes, "train")
        self.validation = None
        if validation is not None:
            self.validation = _through(body, validation, classes, "validation")[:2]


def _through(body, pictures, classes, argument):
    found = list(predictions(body, _checked(pictures.batches(), classes, argument)))
    if not found:
        raise ValueError(f"{argument}: there are no pictures.")
    features, labels = zip(*found, strict=True)
    return np.concatenate(features).astype("float32"), np.concatenate(labels), len(labels)


def _checked(batches, classes, argument):
    """The batches, whose labels are known to be of the classes."""
    for images, labels in batches:
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"{argument}: labels go from {labels.min()} to {labels.max()}, the model has {classes} classes: "
                "from_pretrained(name, classes=...) gives it others."
            )
        yield images, labels


def fit_classifier(classifier, features, class_weight, seed):
    """Trains the classifier on features: a logistic regression.

    Args:
        classifier: `keras.layers.Dense`, the last layer of a model.
        features: `Features`.
        class_weight: factors of the loss by class number, or None.
        seed: of the order.

    Returns:
        Dictionary as Keras logs an epoch: loss, accuracy, and with validation pictures val_loss, val_accuracy.
    """
    inputs = keras.Input(features.train.shape[1:])
    head = keras.Model(inputs, classifier(inputs))
    batches = _Drawn(features.train, features.labels, seed)
    compile_classifier(head, keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, len(batches))))
    head.fit(batches, epochs=1, class_weight=class_weight, shuffle=False, verbose=0)
    logs = head.evaluate(features.train, features.labels, batch_size=AT_ONCE, verbose=0, return_dict=True)
    if features.validation:
        measured = head.evaluate(*features.validation, batch_size=AT_ONCE, verbose=0, return_dict=True)
        logs |= {f"val_{name}": value for name, value in measured.items()}
    return logs


class _Drawn(keras.utils.PyDataset):
    """Batches of features, one shuffled epoch after the other, in one long epoch: Keras pauses after each."""

    def __init__(self, features, labels, seed):
        super().__init__()
        self._features, self._labels = features, labels
        self._size = min(BATCH, len(labels))
        per_epoch = len(labels) // self._size
        rng = np.random.default_rng(seed)
        epochs = max(EPOCHS, -(-STEPS // per_epoch))
        orders = [rng.permutation(len(labels))[: per_epoch * self._size] for _ in range(epochs)]
        self._batches = np.concatenate(orders).reshape(-1, self._size)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._features[self._batches[index]], self._labels[self._batches[index]]


def class_weights(given, labels, classes):
    """Factors of the loss by class number; for "balanced" those by which all classes count alike."""
    if given != "balanced":
        return given
    counts = np.bincount(labels, minlength=classes)
    return {
        label: len(labels) / (np.count_nonzero(counts) * count) if count else 0.0 for label, count in enumerate(counts)
    }


def compile_classifier(model, optimizer):
    """Compiles a model with cross-entropy and accuracy; its last activation says whether it gives logits."""
    logits = keras.activations.serialize(model.layers[-1].activation) == "linear"
    # XLA's convolutions on a CPU are slower than TensorFlow's own, and take long to compile.
    slow = keras.backend.backend() == "tensorflow" and not _has_accelerator()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(optimizer, loss, weighted_metrics=[], metrics=["accuracy"], jit_compile=False if slow else "auto")


def _has_accelerator():
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
