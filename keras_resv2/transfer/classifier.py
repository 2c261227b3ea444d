"""The classifier at the end of a network, and its training on the features of the frozen body."""

import keras
import numpy as np

from keras_resv2.evaluation import predictions
from keras_resv2.graphs import deep_graph
from keras_resv2.transfer.freezing import flat_layers
from keras_resv2.transfer.given import AT_ONCE

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
        return keras.Model(model.inputs[0], features)


class Features:
    """What the body makes of the pictures, the input of the classifier; and their labels.

    Args:
        model: as `classifier_of` takes it.
        train, validation: `Pictures`; validation may be None.

    Attributes:
        train, labels: features ``(n, channels)`` and labels ``(n,)`` of the training pictures.
        validation: ``(features, labels)``, or None.
        batches: in how many batches the pictures came, by "train" and "validation".
    """

    def __init__(self, model, train, validation):
        body = body_of(model)
        self.batches = {}
        self.train, self.labels = self._through(body, train)
        self.validation = None if validation is None else self._through(body, validation)

    def _through(self, body, pictures):
        found = list(predictions(body, pictures.batches()))
        if not found:
            raise ValueError(f"{pictures.argument}: there are no pictures.")
        self.batches[pictures.argument] = len(found)
        features, labels = zip(*found, strict=True)
        return np.concatenate(features).astype("float32"), np.concatenate(labels)


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


def check_class_weight(given, classes):
    """Raises ValueError unless `class_weights` takes this."""
    if given is None or (isinstance(given, str) and given == "balanced"):
        return
    if not isinstance(given, dict) or not set(given) <= set(range(classes)):
        raise ValueError(
            f'class_weight={given!r} must be "balanced", or a dictionary from class numbers (0 to {classes - 1}) to '
            "factors of the loss."
        )


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
    if any(layer.compute_dtype == "float16" for layer in flat_layers(model)):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # Keras looks at the model's own policy alone
    model.compile(optimizer, loss, weighted_metrics=[], metrics=["accuracy"], jit_compile=False if slow else "auto")


def _has_accelerator():
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
