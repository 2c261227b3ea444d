"""The classifier at the end of a network, and its training on the features of the frozen backbone."""

import keras
import numpy as np

from keras_resv2.evaluation import predictions
from keras_resv2.models.graph import activation_name, check_functional, deep_graph
from keras_resv2.transfer.augmentation import divisible_size
from keras_resv2.transfer.freezing import flat_layers
from keras_resv2.transfer.input_spec import class_probabilities
from keras_resv2.transfer.inputs import LabelledImages, check_divisible

STEPS, EPOCHS, RATE, BATCH = 400, 20, 0.01, 256  # at least so many steps and epochs


def classifier_of(model: keras.Model) -> keras.layers.Dense:
    """The `Dense` layer of class scores at the end of a model, with or without a softmax layer after it.

    Raises:
        ValueError: if the model ends with another layer, or is neither functional nor sequential with an input shape.
    """
    # Not the last of `model.layers`, among which operations such as keras.ops.softmax are not.
    last, _, _ = check_functional(model).outputs[0]._keras_history
    *before, _ = model.layers
    softmax = isinstance(last, (keras.layers.Softmax, keras.layers.Activation)) and activation_name(last) == "softmax"
    layer = before[-1] if softmax and before else last
    if not isinstance(layer, keras.layers.Dense):
        raise ValueError(
            f"model {model.name!r} ends with {last.name!r}, not with a Dense layer of class scores (and a softmax): "
            "build it with its classifier, for example with from_pretrained(name, classes=5)."
        )
    return layer


def check_classifier(model: keras.Model) -> None:
    """Raises ValueError unless a model's outputs are logits or probabilities of two classes or more."""
    classifier, last = classifier_of(model), model.layers[-1]
    name = activation_name(classifier)
    if name not in (("softmax", "linear") if last is classifier else ("linear",)):
        several = ": its classes do not exclude each other" if name == "sigmoid" else ""
        raise ValueError(
            f"layer {classifier.name!r} has the activation {name!r}{several}, and fine_tune trains one class per "
            "image: build it with classifier_activation='softmax' or None."
        )
    if classifier.units < 2:
        raise ValueError(
            f"layer {classifier.name!r} has one output, and fine_tune needs one per class: build the model with two "
            "outputs for two classes, for example with from_pretrained(name, classes=2)."
        )


def body_of(model: keras.Model) -> keras.Model:
    """A model without its classifier: from pixels to features ``(n, channels)``. It shares the weights.

    Args:
        model: a network that ends with a `Dense` layer, with or without a softmax layer after it.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if the model does not end with a `Dense` layer.

    Example:

    >>> import keras_resv2
    >>> body_of(keras_resv2.ResNet(8)).output_shape
    (None, 64)
    """
    classifier, features = classifier_of(model), model.outputs[0]
    # Not classifier.input: a layer that several models share has the input of the first one there.
    operation = None
    while operation is not classifier:
        operation, node, _ = features._keras_history
        features = operation._inbound_nodes[node].input_tensors[0]
    with deep_graph():
        return keras.Model(model.inputs[0], features)


class Features:
    """Features that the backbone computes from images, the input of the classifier; and the labels.

    Args:
        model: as `classifier_of` takes it.
        train: training images.
        validation: validation images, or None.

    Attributes:
        body: `keras.Model`, the network without its classifier.
        train, labels, weights: features ``(n, channels)``, labels ``(n,)`` or ``(n, classes)``, and sample weights
            ``(n,)`` or None of the training images.
        soft: whether labels of either are class probabilities; then all training labels are.
        batches: number of the training batches.
    """

    def __init__(self, model: keras.Model, train: LabelledImages, validation: LabelledImages | None):
        self.body = body_of(model)
        self.train, self.labels, self.weights, self.batches = self.compute(train, divide=not train.in_memory)
        parts = [(train, self.labels, self.weights)]
        if validation is not None:
            _, labels, weights, _ = self.compute(validation)
            parts.append((validation, labels, weights))
        self.soft = any(labels.ndim == 2 for _, labels, _ in parts)
        if self.soft:
            self.labels = class_probabilities(self.labels, train.spec.classes)
        for images, _, weights in parts:
            if weights is not None and not weights.any():
                raise ValueError(f"{images.argument}: all sample weights are 0.")

    def compute(
        self, images: LabelledImages, divide: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
        """Features, labels, sample weights (or None) of all images, and the number of batches.

        Args:
            images: images and labels.
            divide: whether each batch has to divide among the devices.

        Raises:
            ValueError: if there are no images, or a batch does not fit the model or its devices.
        """
        labels, weights, weighted = [], [], []

        def batches():
            for pixels, of_batch, own in images.batches():
                if divide:
                    check_divisible(images.argument, len(pixels))
                labels.append(of_batch)
                weights.append(np.ones(len(pixels), "float32") if own is None else own)
                weighted.append(own is not None)
                yield pixels, of_batch

        features = [found for found, _ in predictions(self.body, batches())]
        if not features:
            raise ValueError(f"{images.argument}: there are no images.")
        if any(part.ndim == 2 for part in labels):
            labels = [class_probabilities(part, images.spec.classes) for part in labels]
        factors = np.concatenate(weights) if any(weighted) else None
        return np.concatenate(features).astype("float32", copy=False), np.concatenate(labels), factors, len(features)


def fit_classifier(
    classifier: keras.layers.Dense, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, seed: int
) -> None:
    """Trains the classifier on features: a logistic regression.

    Args:
        classifier: the layer, of a model.
        features: ``(n, channels)``.
        labels: ``(n,)`` or ``(n, classes)``.
        weights: loss weights ``(n,)``, or None.
        seed: of the order.
    """
    inputs = keras.Input(features.shape[1:])
    head = keras.Model(inputs, classifier(inputs))
    batches = _FeatureBatches(features, labels, weights, seed)
    adam = keras.optimizers.Adam()
    adam.learning_rate = keras.optimizers.schedules.CosineDecay(RATE, len(batches))
    compile_classifier(head, adam, labels.ndim == 2)
    options = {"epochs": 1, "shuffle": False, "verbose": 0}
    head.fit(batches, **options)


class _FeatureBatches(keras.utils.PyDataset):
    """Batches of features: all shuffled epochs as one, because Keras pauses after each epoch."""

    def __init__(self, features, labels, weights, seed):
        super().__init__()
        self._arrays = (features, labels) if weights is None else (features, labels, weights)
        count = len(labels)
        self._size = divisible_size(min(BATCH, count))
        per_epoch = max(1, count // self._size)
        rng = np.random.default_rng(seed)
        epochs = max(EPOCHS, -(-STEPS // per_epoch))
        orders = [np.resize(rng.permutation(count), per_epoch * self._size) for _ in range(epochs)]
        self._batches = np.concatenate(orders).reshape(-1, self._size)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return tuple(array[self._batches[index]] for array in self._arrays)


def compile_classifier(model: keras.Model, optimizer: keras.optimizers.Optimizer, soft: bool = False) -> None:
    """Compiles a model with cross-entropy and accuracy; its last activation tells whether the outputs are logits.

    Args:
        model: a model that ends with logits or probabilities.
        optimizer: of the training.
        soft: whether labels are class probabilities ``(n, classes)``, not class indices.
    """
    last = model.layers[-1]
    logits = isinstance(last, keras.layers.Dense) and activation_name(last) == "linear"
    loss = keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy
    if any(layer.compute_dtype == "float16" for layer in flat_layers(model)):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # Keras checks only the model's own policy
    model.compile(optimizer, loss(from_logits=logits), metrics=["accuracy"], weighted_metrics=[])
