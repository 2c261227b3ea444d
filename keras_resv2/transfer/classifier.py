"""The classifier at the end of a network, and its training on the features of the frozen body."""

import math
import numbers

import keras
import numpy as np

from keras_resv2.evaluation import predictions
from keras_resv2.models.graph import deep_graph
from keras_resv2.transfer.augmentation import divided
from keras_resv2.transfer.freezing import flat_layers
from keras_resv2.transfer.given import check_batch, label_rows, sample_weights

STEPS, EPOCHS, RATE, BATCH = 400, 20, 0.01, 256  # at least so many steps and epochs


def classifier_of(model):
    """The `Dense` layer of class scores at the end of a model, with a softmax layer after it or not.

    Raises:
        ValueError: the model ends otherwise.
    """
    *before, last = model.layers
    softmax = isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and activation_name(last) == "softmax"
    )
    layer = before[-1] if softmax and before else last
    if not isinstance(layer, keras.layers.Dense):
        raise ValueError(
            f"model {model.name!r} ends with {last.name!r}, not with a Dense layer of class scores (and a softmax): "
            "build it with its classifier, as from_pretrained(name, classes=5) does."
        )
    return layer


def activation_name(layer):
    """Name of a layer's activation, as "softmax"; "linear" for none."""
    return keras.activations.serialize(layer.activation)


def check_classifier(model):
    """Raises ValueError unless a model's outputs are logits or probabilities of two classes or more."""
    classifier, last = classifier_of(model), model.layers[-1]
    if last is classifier:
        name = activation_name(classifier)
        fits = name in ("softmax", "linear")
    else:
        name = activation_name(classifier)
        fits = name == "linear"
    if not fits:
        several = ": its classes do not exclude each other" if name == "sigmoid" else ""
        raise ValueError(
            f"layer {classifier.name!r} has the activation {name!r}{several}, and fine_tune trains one class an image: "
            "build it with classifier_activation='softmax' or None."
        )
    if classifier.units < 2:
        raise ValueError(
            f"layer {classifier.name!r} has one output: two classes are two outputs here, as from_pretrained(name, "
            "classes=2) gives them."
        )


def body_of(model):
    """A model without its classifier: from pixels to features ``(n, channels)``. Weights are shared.

    Raises:
        ValueError: the model does not end with a `Dense` layer.
    """
    features = classifier_of(model).input
    with deep_graph():
        return keras.Model(model.inputs[0], features)


class Features:
    """What the body makes of the images, the input of the classifier; and their labels.

    Args:
        model: as `classifier_of` takes it.
        train, validation: `Pictures`; validation may be None.

    Attributes:
        body: `keras.Model`, the network without its classifier.
        train, labels, weights: features ``(n, channels)``, labels ``(n,)`` or ``(n, classes)``, and weights ``(n,)`` or
            None of the training images.
        rows: whether labels of either are shares of the classes; then those of both are.
        batches: number of the training batches.
    """

    def __init__(self, model, train, validation):
        self.body = body_of(model)
        self.train, self.labels, self.weights, self.batches = self.through(train, divide=not train.in_memory)
        of_validation = None if validation is None else self.through(validation)
        self.rows = self.labels.ndim == 2 or (validation is not None and of_validation[1].ndim == 2)
        if self.rows:
            self.labels = label_rows(self.labels, train.expected.classes)
        for pictures, weights in ((train, self.weights), (validation, of_validation and of_validation[2])):
            if weights is not None and not weights.any():
                raise ValueError(f"{pictures.argument}: all sample weights are 0.")

    def through(self, pictures, divide=False):
        """Features, labels, weights (or None) of all images, and the number of batches.

        Args:
            pictures: `Pictures`.
            divide: whether each batch has to divide among the devices.

        Raises:
            ValueError: there are no images, or a batch does not fit the model or its devices.
        """
        labels, weights, given = [], [], []

        def batches():
            for images, *rest in pictures.batches():
                if divide:
                    check_batch(pictures.argument, len(images))
                labels.append(rest[0])
                weights.append(np.ones(len(images), "float32") if rest[1] is None else rest[1])
                given.append(rest[1] is not None)
                yield images, rest[0]

        features = [found for found, _ in predictions(self.body, batches())]
        if not features:
            raise ValueError(f"{pictures.argument}: there are no images.")
        if any(part.ndim == 2 for part in labels):
            labels = [label_rows(part, pictures.expected.classes) for part in labels]
        weights = np.concatenate(weights) if any(given) else None
        return np.concatenate(features).astype("float32"), np.concatenate(labels), weights, len(features)


def fit_classifier(classifier, features, class_weight, seed):
    """Trains the classifier on features: a logistic regression.

    Args:
        classifier: `keras.layers.Dense`, of a model.
        features: `Features`.
        class_weight: factors of the loss ``(classes,)``, or None.
        seed: of the order.
    """
    inputs = keras.Input(features.train.shape[1:])
    head = keras.Model(inputs, classifier(inputs))
    weights = sample_weights(features.labels, features.weights, class_weight)
    batches = _Drawn(features.train, features.labels, weights, seed)
    adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, len(batches)))
    compile_classifier(head, adam, features.rows)
    head.fit(batches, epochs=1, shuffle=False, verbose=0)


class _Drawn(keras.utils.PyDataset):
    """Batches of features, one shuffled epoch after the other, in one long epoch: Keras pauses after each."""

    def __init__(self, features, labels, weights, seed):
        super().__init__()
        self._arrays = (features, labels) if weights is None else (features, labels, weights)
        count = len(labels)
        self._size = divided(min(BATCH, count))
        per_epoch = max(1, count // self._size)
        rng = np.random.default_rng(seed)
        epochs = max(EPOCHS, -(-STEPS // per_epoch))
        orders = [np.resize(rng.permutation(count), per_epoch * self._size) for _ in range(epochs)]
        self._batches = np.concatenate(orders).reshape(-1, self._size)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return tuple(array[self._batches[index]] for array in self._arrays)


def class_factors(given, classes):
    """What `fine_tune` takes as class_weight, but for "balanced", as an array.

    Args:
        given: None, "balanced", a dictionary from class numbers to factors, or a factor for each class.
        classes: how many there are.

    Returns:
        float64 ``(classes,)``; None and "balanced" as they are.

    Raises:
        ValueError: it is something else, or a factor is negative, NaN or infinite, or all are 0.

    Example:

    >>> class_factors({1: 3.0}, 2).tolist(), class_factors([1, 2], 2).tolist()
    ([1.0, 3.0], [1.0, 2.0])
    """
    if given is None or (isinstance(given, str) and given == "balanced"):
        return given
    if isinstance(given, dict):
        if not all(isinstance(k, numbers.Integral) and 0 <= k < classes for k in given):
            raise ValueError(_class_weight_message(given, classes))
        factors = [given.get(k, 1.0) for k in range(classes)]
    elif isinstance(given, (list, tuple, np.ndarray)) and np.shape(given) == (classes,):
        factors = list(given)
    else:
        raise ValueError(_class_weight_message(given, classes))
    for number, factor in enumerate(factors):
        real = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
        if not real or not math.isfinite(factor) or factor < 0:
            raise ValueError(f"class_weight of class {number} is {factor!r}: it must be a finite number from 0 on.")
    if not any(factors):
        raise ValueError("class_weight is 0 for every class: nothing would be learned.")
    return np.array(factors, "float64")


def _class_weight_message(given, classes):
    return (
        f'class_weight={given!r} must be "balanced", a dictionary from class numbers (0 to {classes - 1}) to factors '
        f"of the loss, or a list of {classes} factors."
    )


def class_weights(given, labels, classes, weights=None):
    """Factors of the loss ``(classes,)``; for "balanced" those by which all classes count alike.

    Args:
        given: as `class_factors` returned it.
        labels: ``(n,)`` or ``(n, classes)``.
        classes: how many there are.
        weights: of the images ``(n,)``, or None.
    """
    if not isinstance(given, str):
        return given
    weights = np.ones(len(labels)) if weights is None else weights
    counts = weights @ label_rows(labels, classes)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.where(present, counts, 1)), 0.0)


def compile_classifier(model, optimizer, rows=False):
    """Compiles a model with cross-entropy and accuracy; its last activation says whether it gives logits.

    Args:
        model: that ends with logits or probabilities.
        optimizer: `keras.optimizers.Optimizer`.
        rows: whether labels are rows ``(n, classes)``, and not class numbers.
    """
    last = model.layers[-1]
    logits = isinstance(last, keras.layers.Dense) and activation_name(last) == "linear"
    # XLA's convolutions on a CPU are slower than TensorFlow's own, and take long to compile.
    slow = keras.backend.backend() == "tensorflow" and not _has_accelerator()
    kind = keras.losses.CategoricalCrossentropy if rows else keras.losses.SparseCategoricalCrossentropy
    if any(layer.compute_dtype == "float16" for layer in flat_layers(model)):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # Keras looks at the model's own policy alone
    model.compile(
        optimizer,
        kind(from_logits=logits),
        metrics=["accuracy"],
        weighted_metrics=[],
        jit_compile=False if slow else "auto",
    )


def _has_accelerator():
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
