"""Which layers train. Frozen batch normalisation uses and keeps its moving statistics, in `fit` too."""

from typing import NamedTuple

import keras

from keras_resv2.argument_checks import nearest
from keras_resv2.models.graph import as_functional, inner_layers, own_weights

CLASSIFIER = "head_dense"


def freeze(model, until=CLASSIFIER):
    """Freezes the layers before a place in the network: their weights no longer change.

    Batch normalisation among them works as in `predict`, by its moving statistics, which stay as they
    are. Compile the model after this, as after any change of what is trainable.

    Args:
        model: a `keras.Model`, of this package or another.
        until: the first part that still trains, as "stage3", "stage3_unit2" or the name of a layer:
            what comes before it is frozen, it and the rest stay as they were. Models, wrappers and layers of
            your own inside the model are searched too. By default the classifier, so that all else is frozen:
            the `Dense` layer at the end, with an activation after it or not; of a model with several outputs
            that of each. None freezes everything.

    Returns:
        `model`.

    Raises:
        ValueError: no layer has such a name; the message has the nearest.

    Example:

    >>> import keras_resv2
    >>> model = freeze(keras_resv2.from_pretrained("resnet20-cifar10", classes=5), until="stage3")
    >>> model.get_layer("stage2_unit3_conv2").trainable, model.get_layer("stage3_unit1_conv1").trainable
    (False, True)
    """
    places = list(_places(model))
    classifiers = classifiers_of(model) if until == CLASSIFIER else []
    if classifiers:
        frozen = [place for place in places if place.layer not in classifiers]
    else:
        position = _position(model, "until", None if until == CLASSIFIER else until, len(places))
        frozen = places[:position]
    for place in frozen:
        place.set_trainable(False)
    return model


def unfreeze(model, since=None, batch_norm=False):
    """Lets layers train again: all but batch normalisation, which stays frozen.

    Few pictures, or others than the network knows, make poor batch statistics: what the body has learned
    is lost while they settle. So batch normalisation is frozen here, wherever it stands in the network,
    unless it is asked for. Compile the model after this.

    Args:
        model: a `keras.Model`, of this package or another.
        since: the first part that trains, as `freeze` takes it; what comes before it stays as it is.
            None for the whole network.
        batch_norm: whether batch normalisation trains too: scale, offset and moving statistics.

    Returns:
        `model`.

    Raises:
        ValueError: no layer has such a name; the message has the nearest.

    Example:

    >>> import keras_resv2
    >>> model = freeze(keras_resv2.from_pretrained("resnet20-cifar10", classes=5))
    >>> model = unfreeze(model, since="stage3")
    >>> model.get_layer("stage3_unit3_conv1").trainable, model.get_layer("stage3_unit3_bn1").trainable
    (True, False)
    """
    places = list(_places(model))
    first = _position(model, "since", since, 0)
    layers = [place.layer for place in places[first:]]
    before = [
        (inner, place.trains and inner.trainable)
        for place in places[:first]
        if not place.holds_others
        for inner in _with_inner([place.layer])
    ]
    own = [(weight, place.trains and weight.trainable) for place in places[:first] for weight in place.own]
    around = [(layer, True) for layer in _with_inner([model]) if inner_layers(layer)]
    # Each by itself: on TensorFlow a layer that is trainable already does not tell those inside it.
    after = [(weight, True) for place in places[first:] for weight in place.own]
    for layer, state in [*around, *before, *((layer, True) for layer in _with_inner(layers)), *own, *after]:
        layer.trainable = state
    set_batch_norm(layers, trainable=batch_norm)
    return model


class _Place(NamedTuple):
    """A layer with weights of its own, or with no others inside it, in a model or in what is inside it.

    Attributes:
        layer: the `keras.layers.Layer`.
        names: of the models and wrappers inside the model that it is in, and its own.
        trains: whether it and all that it is in are trainable.
        holds_others: whether there are layers inside it, which have places of their own.
    """

    layer: keras.layers.Layer
    names: tuple
    trains: bool
    holds_others: bool = False

    @property
    def own(self):
        """Weights for training of a layer that has others inside it; none where the layer's switch is enough."""
        if not self.holds_others:
            return []
        kinds = {id(weight) for weight in self.layer._trainable_variables}  # whether frozen now or not
        return [weight for weight in own_weights(self.layer) if id(weight) in kinds]

    def set_trainable(self, value):
        """Of its own weights alone."""
        for part in self.own if self.holds_others else [self.layer]:
            part.trainable = value


def _places(model, names=(), trains=True):
    trains = trains and model.trainable
    for layer in inner_layers(model):
        own = (*names, layer.name)
        if not inner_layers(layer):
            yield _Place(layer, own, trains and layer.trainable)
            continue
        if not isinstance(layer, keras.Model) and own_weights(layer):
            yield _Place(layer, own, trains and layer.trainable, holds_others=True)
        yield from _places(layer, own, trains)


def flat_layers(model):
    """The layers of a model in their order, those of models and wrappers inside it in their place."""
    return [place.layer for place in _places(model)]


def classifiers_of(model):
    """The `Dense` layers that give a model's outputs, each through layers without weights at most (activations).

    Args:
        model: a `keras.Model`.

    Returns:
        List of `keras.layers.Dense`, one for each output that has one.

    Example:

    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Softmax()(keras.layers.Dense(2, name="scores")(x)))
    >>> [layer.name for layer in classifiers_of(model)]
    ['scores']
    """
    functional = as_functional(model)
    if functional is not None:
        found = [_classifier_behind(x) for x in keras.tree.flatten(functional.output)]
        return [layer for layer in found if layer is not None]
    last = next((layer for layer in reversed(flat_layers(model)) if layer.weights), None)
    return [last] if isinstance(last, keras.layers.Dense) else []


def _classifier_behind(x):
    """The `Dense` layer that a tensor comes from; None where another layer with weights is before it."""
    while True:
        operation, node, position = x._keras_history
        if isinstance(operation, keras.layers.Wrapper):
            operation = operation.layer
        if isinstance(operation, keras.layers.Dense):
            return operation
        functional = as_functional(operation)
        if functional is not None:
            return _classifier_behind(keras.tree.flatten(functional.output)[position])
        inputs = operation._inbound_nodes[node].input_tensors if not getattr(operation, "weights", ()) else ()
        if len(inputs) != 1:
            return None
        x = inputs[0]


def set_batch_norm(layers, trainable):
    """Sets whether batch normalisation trains, in these layers and in all inside them."""
    inner = list(_with_inner(layers))
    for layer in inner:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = trainable
    _match_rolled(inner)


def _with_inner(layers):
    """Yields layers, each before those inside it; of rolled units those of the unit."""
    for layer in layers:
        yield layer
        unit = getattr(layer, "unit", None)
        yield from _with_inner(inner_layers(unit if isinstance(unit, keras.Model) else layer))


def _match_rolled(layers):
    for layer in layers:
        if hasattr(layer, "unit_weights"):
            layer.match_unit()


def _position(model, argument, name, default):
    """Index among the flat layers of the first one of a part of the network."""
    if name is None:
        return default
    places = list(_places(model))
    for position, place in enumerate(places):
        if any(own == name or own.startswith(f"{name}_") for own in place.names):
            return position
    words = (own.split("_") for place in places for own in place.names)
    parts = dict.fromkeys("_".join(part[:end]) for part in words for end in range(1, len(part) + 1))
    raise ValueError(
        f"{argument}={name!r}: model {model.name!r} has no layer of that name; nearest: {nearest(name, parts)}."
    )
