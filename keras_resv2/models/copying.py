"""Copies functional models layer by layer, with other layers, inputs or weights."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_resv2.models.graph import as_functional, calls, check_functional, deep_graph, inner_layers, own_weights


class HolderCopy:
    """A copy of a layer that contains other layers: a wrapper, or a custom layer or model.

    The inner layers are replaced, by name, where they appear in the layer's configuration.

    Args:
        layer: the layer to copy.
        copy_network: function from an inner functional model to its copy, with its weights.
        copy_layer: function from any other inner layer to its copy, without weights.
        config: configuration of the copy; None for that of the layer.

    Attributes:
        layer: the copy, which has no weights until it is called.
    """

    def __init__(self, layer, copy_network, copy_layer, config=None):
        self._original, self._networks, self._nested, copies = layer, {}, {}, {}
        for inside in inner_layers(layer):
            if as_functional(inside) is not None:
                self._networks[inside.name] = copies[inside.name] = copy_network(inside)
            elif inner_layers(inside):
                self._nested[inside.name] = HolderCopy(inside, copy_network, copy_layer)
                copies[inside.name] = self._nested[inside.name].layer
            else:
                copies[inside.name] = copy_layer(inside)
        self.layer = type(layer).from_config(_with_layers(config or layer.get_config(), copies))

    def set_weights(self, layer=None):
        """Sets the weights of the copy, once it has been called; inner networks get those of their copies."""
        layer, originals = layer or self.layer, inner_layers(self._original)
        by_name = {inside.name: inside for inside in originals}
        for place, inside in enumerate(inner_layers(layer)):
            if inside.name in self._nested:
                self._nested[inside.name].set_weights(inside)
            else:
                original = by_name.get(inside.name, originals[min(place, len(originals) - 1)])
                inside.set_weights(self._networks.get(inside.name, original).get_weights())
        for mine, theirs in zip(own_weights(layer), own_weights(self._original), strict=True):
            mine.assign(theirs)


def _with_layers(config, copies):
    """Replaces layers in a configuration by those of the same name."""
    if isinstance(config, (list, tuple)):
        return type(config)(_with_layers(item, copies) for item in config)
    if not isinstance(config, dict):
        return config
    own = config.get("config")
    if "class_name" in config and isinstance(own, dict) and own.get("name") in copies:
        return keras.saving.serialize_keras_object(copies[own["name"]])
    return {key: _with_layers(value, copies) for key, value in config.items()}


def _nothing(layer):
    return None


class LayerCopies:
    """Copies of the layers of a model, each created once.

    Args:
        copy_layer: function from a layer without inner layers to its copy, which has no weights yet.
        copy_network: function from a nested model to its copy, with its weights.
        replace: function from a layer to its replacement, which has no weights yet, or to None.
        config: function from a layer with inner layers to the configuration of its copy.
    """

    def __init__(self, copy_layer, copy_network, replace=None, config=None):
        self._copy_layer, self._copy_network = copy_layer, copy_network
        self._replace, self._config = replace or _nothing, config or _nothing
        self._copies, self._holders = {}, {}

    def __getitem__(self, layer):
        """Returns the copy of a layer."""
        if layer not in self._copies:
            self._copies[layer] = self._make(layer)
        return self._copies[layer]

    def _make(self, layer):
        if as_functional(layer) is not None:
            return self._copy_network(layer)
        if (replaced := self._replace(layer)) is not None:
            return replaced
        if not inner_layers(layer):
            return self._copy_layer(layer)
        self._holders[layer] = HolderCopy(layer, self._copy_network, self._copy_layer, self._config(layer))
        return self._holders[layer].layer

    def set_weights(self, weights_of=lambda layer, copy: layer.get_weights()):
        """Sets the weights of the copies, once they have been called.

        Args:
            weights_of: function from a layer and its copy to the weights of the copy.
        """
        for layer, copy in self._copies.items():
            if layer in self._holders:
                self._holders[layer].set_weights()
            elif getattr(layer, "weights", None) and as_functional(layer) is None:  # nested models already have theirs
                copy.set_weights(weights_of(layer, copy))
                if hasattr(copy, "finalize_state"):  # keras.layers.Normalization
                    copy.finalize_state()


def call_layers(model: Any, inputs: Any, call: Callable) -> Any:
    """Runs the graph of a model on other inputs, optionally with other layers.

    Args:
        model: a functional `keras.Model`.
        inputs: Keras tensors, structured like ``model.input``.
        call: function ``(node, arguments, options)`` that returns the outputs for a node of `calls`; arguments and
            options are those of the original call, with the new tensors in place of the model's.

    Returns:
        Keras tensors, structured like ``model.output``.
    """
    tensors = dict(zip(map(id, keras.tree.flatten(model.input)), keras.tree.flatten(inputs), strict=True))
    for node in calls(model):
        if node.is_input:
            continue
        arguments, options = node.arguments.fill_in(tensors)
        outputs = keras.tree.flatten(call(node, arguments, options))
        tensors.update(zip(map(id, node.outputs), outputs, strict=True))
    return keras.tree.map_structure(lambda x: tensors[id(x)], model.output)


def new_inputs(model: Any, dtype: Callable = lambda dtype: dtype) -> Any:
    """Creates inputs like those of a functional model, in the same structure.

    Args:
        model: a functional `keras.Model`.
        dtype: function from the dtype of an input to that of the new one.
    """
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=dtype(x.dtype), name=x.name), model.input
    )


def copy_model(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer], keras.layers.Layer | None] | None = None,
    call: Callable | None = None,
) -> keras.Model:
    """Copies a model layer by layer, with the same weights.

    Args:
        model: a functional `keras.Model`; models nested in it, in wrappers and in custom layers are copied too, the
            latter if their `get_config` returns them.
        replace: function from a layer to its replacement with weights of the same shapes, or to None for a copy of it;
            None to copy all layers.
        call: function ``(layer, *arguments, **options)`` that calls a layer of the copy, see
            `keras.models.clone_model`; layers that it adds have no weights.

    Returns:
        `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: if the model is not functional.

    Example:

    >>> import keras_resv2
    >>> network = keras_resv2.ResNet(8)
    >>> copy_model(network).count_params()
    75770
    """
    functional = check_functional(model)

    def clone(layer):
        return type(layer).from_config(layer.get_config())

    def call_copy(node, arguments, options):
        layer = copies[node.operation]
        return call(layer, *arguments, **options) if call else layer(*arguments, **options)

    copies = LayerCopies(clone, functools.partial(copy_model, replace=replace, call=call), replace)
    with deep_graph():
        inputs = new_inputs(functional)
        copy = keras.Model(inputs, call_layers(functional, inputs, call_copy), name=functional.name)
    copies.set_weights()
    return copy
