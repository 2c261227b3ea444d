"""Which layers train. Frozen batch normalisation uses and keeps its moving statistics, in `fit` too."""

from typing import NamedTuple

import keras

from keras_resv2.choices import nearest

CLASSIFIER = "head_dense"


def freeze(model, until=CLASSIFIER):
    """Freezes the layers before a place in the network: their weights no longer change.

    Batch normalisation among them works as in `predict`, by its moving statistics, which stay as they
    are. Compile the model after this, as after any change of what is trainable.

    Args:
        model: a `keras.Model`, of this package or another.
        until: the first part that still trains, as "stage3", "stage3_unit2" or the name of a layer:
            what comes before it is frozen, it and the rest stay as they were. Models inside the model
            are searched too. By default the classifier, the `Dense` layer at the end, so that all else
            is frozen; None freezes everything.

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
    layers = flat_layers(model)
    if until == CLASSIFIER and isinstance(layers[-1], keras.layers.Dense):
        until = layers[-1].name
    elif until == CLASSIFIER:
        until = None
    for layer in layers[: _position(model, "until", until, len(layers))]:
        layer.trainable = False
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
        (inner, place.trains and inner.trainable) for place in places[:first] for inner in _with_inner([place.layer])
    ]
    models = [(layer, True) for layer in _with_inner([model]) if isinstance(layer, keras.Model)]
    # Each by itself: on TensorFlow a layer that is trainable already does not tell those inside it.
    for layer, state in [*models, *before, *((layer, True) for layer in _with_inner(layers))]:
        layer.trainable = state
    set_batch_norm(layers, trainable=batch_norm)
    return model


class _Place(NamedTuple):
    """A layer that is no model, in a model or in one inside it.

    Attributes:
        layer: the `keras.layers.Layer`.
        names: of the models inside the model that it is in, and its own.
        trains: whether it and all models that it is in are trainable.
    """

    layer: keras.layers.Layer
    names: tuple
    trains: bool


def _places(model, names=(), trains=True):
    trains = trains and model.trainable
    for layer in model.layers:
        own = (*names, layer.name)
        if isinstance(layer, keras.Model):
            yield from _places(layer, own, trains)
        else:
            yield _Place(layer, own, trains and layer.trainable)


def flat_layers(model):
    """The layers of a model in their order, those of models inside it in their place."""
    return [place.layer for place in _places(model)]


def set_batch_norm(layers, trainable):
    """Sets whether batch normalisation trains, in these layers and in all inside them."""
    inner = list(_with_inner(layers))
    for layer in inner:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = trainable
    _match_rolled(inner)


def _with_inner(layers):
    """Yields layers, each before those inside it."""
    for layer in layers:
        yield layer
        unit = getattr(layer, "unit", None)
        yield from _with_inner(getattr(unit if isinstance(unit, keras.Model) else layer, "layers", ()))


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
