"""Building deep functional graphs, and copies of them with other layers."""

import contextlib
import gc
import sys
import threading

import keras

# Keras follows a graph by recursion, up to eight calls per unit of a network; there are up to 600 units.
RECURSION_LIMIT = 20_000


@contextlib.contextmanager
def deep_graph():
    """Makes room for graphs of thousands of layers while they are built.

    Python's recursion limit is raised, which `keras.Model` meets at 1,202 layers; the garbage collector
    rests, which would search the growing graph again and again; and on TensorFlow all variables have
    one name inside the runtime, which would compile an operation for each other name. Their names in
    Keras are their own. `ResNet1202` needs it around what Keras does with its graph: opening a saved one, or
    putting other layers on it.

    Example:

    >>> with deep_graph():
    ...     model = keras.Model(inputs := keras.Input((1,)), inputs)
    >>> with deep_graph():
    ...     model = keras.models.load_model("resnet1202.keras")  # doctest: +SKIP
    """
    with _INTERPRETER, _one_variable_name():
        yield


class _Interpreter:
    """The interpreter's settings while graphs are built. They are of the process: threads that build at the same
    time share them, and the last one out restores what the first one found."""

    def __init__(self):
        self._lock, self._inside, self._found = threading.Lock(), 0, None

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._found = sys.getrecursionlimit(), gc.isenabled()
                sys.setrecursionlimit(max(self._found[0], RECURSION_LIMIT))
                gc.disable()
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                limit, collects = self._found
                sys.setrecursionlimit(limit)
                if collects:
                    gc.enable()


_INTERPRETER = _Interpreter()


def _one_variable_name():
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    if not tf.executing_eagerly() or tf.distribute.has_strategy():
        return contextlib.nullcontext()  # there the name is what tells one variable from another
    # The stroke at the end keeps TensorFlow from putting the name scope before it.
    return tf.variable_creator_scope(lambda create, **arguments: create(**{**arguments, "name": "variable/"}))


def calls(model):
    """The calls of a model's layers, inputs first.

    Args:
        model: a functional `keras.Model`.

    Returns:
        List of Keras' nodes: `operation` is the layer, `input_tensors`, `arguments` and `outputs` are its.

    Example:

    >>> x = keras.Input((4,))
    >>> [type(node.operation).__name__ for node in calls(keras.Model(x, keras.layers.Dense(2)(x)))]
    ['InputLayer', 'Dense']
    """
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def is_cast(node):
    """Whether a call only changes the precision of its input: Keras up to 3.8 keeps those of mixed precision."""
    kept = type(node.operation).__name__ == "Cast" and not isinstance(node.operation, keras.Layer)
    return kept and all(keras.backend.is_float_dtype(x.dtype) for x in (*node.input_tensors, *node.outputs))


def inner_layers(layer):
    """The layers directly inside a layer: those of a model, of a wrapper, of a layer of the user's own.

    Args:
        layer: a `keras.layers.Layer` or `keras.Model`.

    Returns:
        List of layers, in the order of a functional model's graph, else as they were made.

    Example:

    >>> [layer.name for layer in inner_layers(keras.layers.TimeDistributed(keras.layers.Dense(2, name="each")))]
    ['each']
    """
    return list(layer.layers if isinstance(layer, keras.Model) else getattr(layer, "_layers", ()))


def own_weights(layer):
    """The weights of a layer that are not those of a layer inside it."""
    inner = {id(weight) for inside in inner_layers(layer) for weight in inside.weights}
    return [weight for weight in layer.weights if id(weight) not in inner]


def all_layers(layer):
    """Yields the layers inside a layer, each before those inside it.

    Example:

    >>> inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="scores")], name="inner")
    >>> [each.name for each in all_layers(keras.layers.TimeDistributed(inner))]
    ['inner', 'scores']
    """
    for inside in inner_layers(layer):
        yield inside
        yield from all_layers(inside)


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


def as_functional(model):
    """The model, a `keras.Sequential` as the functional one that it is; None for all else."""
    if isinstance(model, keras.Sequential) and hasattr(model, "inputs"):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model if isinstance(model, keras.Model) and hasattr(model, "operations") else None


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
    functional = as_functional(model)
    if functional is None:
        raise ValueError(f"{model!r} is not a functional keras.Model, as the builders of keras_resv2 make them.")

    holders = {}

    def clone_leaf(layer):
        return (replace and replace(layer)) or type(layer).from_config(layer.get_config())

    def clone_network(network):
        return copy_model(network, replace, call)

    def clone(layer):
        if as_functional(layer) is not None:
            return clone_network(layer)
        other = replace(layer) if replace and inner_layers(layer) else None
        if other or not inner_layers(layer):
            return other or clone_leaf(layer)
        holders[layer.name] = HolderCopy(layer, clone_network, clone_leaf)
        return holders[layer.name].layer

    with deep_graph():
        copy = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.weights and as_functional(layer) is None:  # models inside have theirs
            if layer.name in holders:
                holders[layer.name].set_weights()
            else:
                copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy
