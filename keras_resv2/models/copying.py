"""Copies of functional models, layer by layer, with other layers, inputs or weights."""

import functools

import keras

from keras_resv2.models.graph import as_functional, calls, check_functional, deep_graph, inner_layers, own_weights


class HolderCopy:
    """A copy of a layer with layers inside it: a wrapper, or a layer or model of the user's own.

    Those inside are replaced where the layer's configuration has them, by their names.

    Args:
        layer: that has layers inside it.
        copy_network: function from a functional model inside to its copy, with its weights.
        copy_layer: function from another layer inside to its copy, without weights.
        config: of the copy; None for the layer's.

    Attributes:
        layer: the copy, which has no weights before it is called.
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
        """Gives the copy, which has been called, the weights of the layer; networks inside it those of their copies."""
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
    """A configuration with other layers in it, which have the names of those that they replace."""
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
    """Copies of the layers of a model, each made once.

    Args:
        copy_layer: function from a layer without others inside it to its copy, which has no weights yet.
        copy_network: function from a model inside the model to its copy, with its weights.
        replace: function from a layer to the one that takes its place, which has no weights yet; or to None.
        config: function from a layer with others inside it to the configuration of its copy.
    """

    def __init__(self, copy_layer, copy_network, replace=None, config=None):
        self._copy_layer, self._copy_network = copy_layer, copy_network
        self._replace, self._config = replace or _nothing, config or _nothing
        self._copies, self._holders = {}, {}

    def __getitem__(self, layer):
        """The copy of a layer."""
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
        """Gives the copies, which have been called, their weights.

        Args:
            weights_of: function from a layer and its copy to the arrays that the copy gets.
        """
        for layer, copy in self._copies.items():
            if layer in self._holders:
                self._holders[layer].set_weights()
            elif getattr(layer, "weights", None) and as_functional(layer) is None:  # models inside have theirs
                copy.set_weights(weights_of(layer, copy))
                if hasattr(copy, "finalize_state"):  # of keras.layers.Normalization
                    copy.finalize_state()


def call_layers(model, inputs, call):
    """Follows the graph of a model with other inputs and, it may be, other layers.

    Args:
        model: a functional `keras.Model`.
        inputs: Keras tensors in the structure of ``model.input``.
        call: function ``(node, arguments, options)`` to the outputs that stand for those of the node of `calls`;
            arguments and options are those of its call, with the tensors that stand for the model's.

    Returns:
        Keras tensors in the structure of ``model.output``.
    """
    tensors = dict(zip(map(id, keras.tree.flatten(model.input)), keras.tree.flatten(inputs), strict=True))
    for node in calls(model):
        if node.is_input:
            continue
        arguments, options = node.arguments.fill_in(tensors)
        outputs = keras.tree.flatten(call(node, arguments, options))
        tensors.update(zip(map(id, node.outputs), outputs, strict=True))
    return keras.tree.map_structure(lambda x: tensors[id(x)], model.output)


def new_inputs(model, dtype=lambda dtype: dtype):
    """Inputs as those of a functional model, in the same structure.

    Args:
        model: a functional `keras.Model`.
        dtype: function from the type of an input to the type of the new one.
    """
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=dtype(x.dtype), name=x.name), model.input
    )


def copy_model(model, replace=None, call=None):
    """A copy of a model, layer by layer, with the same weights.

    Args:
        model: a functional `keras.Model`; models inside it, in wrappers and in layers of the user's own are copied
            too, the last where their `get_config` has them.
        replace: function from a layer to the one that takes its place, with weights of the same shapes;
            or to None for a copy of it; None for copies of all.
        call: function ``(layer, *arguments, **options)`` that calls a layer of the copy, as
            `keras.models.clone_model` takes it; layers that it adds have no weights.

    Returns:
        `keras.Model`, which shares nothing with `model`.

    Raises:
        ValueError: the model is not a functional one.

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
