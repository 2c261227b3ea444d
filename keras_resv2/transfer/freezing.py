"""Which layers train. Frozen batch normalization uses and keeps its moving statistics, in `fit` too."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras

from keras_resv2.argument_checks import nearest
from keras_resv2.models.graph import as_functional, inner_layers, own_weights

CLASSIFIER = "head_dense"


def freeze(model: keras.Model, until: str | None = CLASSIFIER) -> keras.Model:
    """Freezes the layers before a place in the network: their weights no longer change.

    Frozen batch normalization works as in `predict`: it uses its moving statistics, and keeps them. Compile the model
    afterwards, as after any change of what is trainable.

    Args:
        model: a model of this package or another.
        until: the first part that is not frozen, such as "stage3", "stage3_unit2" or the name of a layer: "stage3"
            freezes the stem and stages 1 and 2, not stage 3. It and the layers after it stay as they were. Models,
            wrappers and custom layers inside the model are searched too. By default the classifier, so that everything
            else is frozen: the `Dense` layer at the end, with or without an activation layer after it; in a model with
            several outputs, that of each output. None freezes everything.

    Returns:
        `model`.

    Raises:
        ValueError: if no layer has this name; the message names the nearest.

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


def unfreeze(model: keras.Model, since: str | None = None, batch_norm: bool = False) -> keras.Model:
    """Makes layers trainable, and freezes batch normalization from `since` on unless `batch_norm` is True.

    A network that was never frozen has fewer trainable weights afterwards: its batch normalization is frozen too.
    Batch statistics of few or unusual images are unreliable, and updating the moving statistics with them destroys
    what the network has learned. Compile the model afterwards.

    Args:
        model: a model of this package or another.
        since: the first part that trains, named as `until` of `freeze`: "stage3" includes stage 3. Layers before it
            stay as they are. None for the whole network.
        batch_norm: whether batch normalization trains too: scale, offset and moving statistics.

    Returns:
        `model`.

    Raises:
        ValueError: if no layer has this name; the message names the nearest.

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
        for inner in with_inner([place.layer])
    ]
    own = [(weight, place.trains and weight.trainable) for place in places[:first] for weight in place.own]
    around = [(layer, True) for layer in with_inner([model]) if inner_layers(layer)]
    # One by one: on TensorFlow a layer that is already trainable does not pass the value on to the layers inside it.
    after = [(weight, True) for place in places[first:] for weight in place.own]
    for layer, state in [*around, *before, *((layer, True) for layer in with_inner(layers)), *own, *after]:
        layer.trainable = state
    set_batch_norm(layers, trainable=batch_norm)
    _match_rolled(with_inner([model]))
    return model


class _Place(NamedTuple):
    """A layer with its own weights, or without layers inside it, at any depth of a model.

    Attributes:
        layer: the `keras.layers.Layer`.
        names: of the inner models and wrappers that contain it, and its own.
        trains: whether it and all that contain it are trainable.
        holds_others: whether there are layers inside it, which have their own places.
    """

    layer: keras.layers.Layer
    names: tuple
    trains: bool
    holds_others: bool = False

    @property
    def own(self):
        """Trainable weights of a layer with others inside it; none if `layer.trainable` is enough."""
        if not self.holds_others:
            return []
        kinds = {id(weight) for weight in self.layer._trainable_variables}  # whether frozen now or not
        return [weight for weight in own_weights(self.layer) if id(weight) in kinds]

    def set_trainable(self, value):
        """Sets `trainable` of its own weights only."""
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


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in order; inner models and wrappers are replaced by their layers."""
    return [place.layer for place in _places(model)]


def classifiers_of(model: keras.Model) -> list[keras.layers.Dense]:
    """The `Dense` layers that a model's outputs come from, directly or through layers without weights (activations).

    Args:
        model: a `keras.Model`.

    Returns:
        List of the layers, one for each output that has one.

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
    """The `Dense` layer that a tensor comes from; None if there is another layer with weights in between."""
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


def set_batch_norm(layers: list[keras.layers.Layer], trainable: bool) -> None:
    """Sets whether batch normalization trains, in these layers and all layers inside them."""
    inner = list(with_inner(layers))
    for layer in inner:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = trainable
    _match_rolled(inner)


def check_batch_norm_trains(model: keras.Model) -> None:
    """Raises ValueError if all batch normalization of a model is frozen, but the backbone around it is not."""
    layers = list(with_inner([model]))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    no_body = (keras.layers.BatchNormalization, keras.layers.Dense)
    body = [layer for layer in layers if not isinstance(layer, no_body) and not inner_layers(layer)]
    if norms and not any(layer.trainable for layer in norms) and any(layer.trainable_weights for layer in body):
        raise ValueError(
            'batch_norm="trained", but all batch normalization of the model is frozen, as `fine_tune` and `unfreeze` '
            "leave it: call unfreeze(model, since=..., batch_norm=True) first."
        )


def with_inner(layers: Iterable[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """Yields layers, each before the layers inside it; for rolled units the layers of the unit."""
    for layer in layers:
        yield layer
        unit = getattr(layer, "unit", None)
        yield from with_inner(inner_layers(unit if isinstance(unit, keras.Model) else layer))


def _match_rolled(layers):
    for layer in layers:
        if hasattr(layer, "unit_weights"):
            layer.match_unit()


def _position(model, argument, name, default):
    """Index of the first layer of a part of the network, among the flat layers."""
    if name is None:
        return default
    places = list(_places(model))
    for position, place in enumerate(places):
        if any(own == name or own.startswith(f"{name}_") for own in place.names):
            return position
    words = (own.split("_") for place in places for own in place.names)
    parts = dict.fromkeys("_".join(part[:end]) for part in words for end in range(1, len(part) + 1))
    raise ValueError(
        f"{argument}={name!r}: model {model.name!r} has no layer of this name; nearest: {nearest(name, parts)}."
    )
