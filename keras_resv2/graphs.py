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
        copy_inside: function from a layer inside to its copy, with its weights.
        change: function from the layer's configuration to another one; or None.

    Attributes:
        layer: the copy, which has no weights before it is called.
    """

    def __init__(self, layer, copy_inside, change=None):
        self._original = layer
        self._copies = {inside.name: copy_inside(inside) for inside in inner_layers(layer)}
        config = layer.get_config()
        self.layer = type(layer).from_config(self._replaced(change(config) if change else config))

    def _replaced(self, config):
        if isinstance(config, (list, tuple)):
            return type(config)(map(self._replaced, config))
        if not isinstance(config, dict):
            return config
        own = config.get("config")
        if "class_name" in config and isinstance(own, dict) and own.get("name") in self._copies:
            return keras.saving.serialize_keras_object(self._copies[own["name"]])
        return {key: self._replaced(value) for key, value in config.items()}

    def set_weights(self):
        """Gives the copy, which has been called, the weights of the layer; those inside theirs."""
        originals = inner_layers(self._original)
        for place, inside in enumerate(inner_layers(self.layer)):
            source = self._copies.get(inside.name, originals[min(place, len(originals) - 1)])
            inside.set_weights(source.get_weights())
        for mine, theirs in zip(own_weights(self.layer), own_weights(self._original), strict=True):
            mine.assign(theirs)


def as_functional(model):
    """The model, a `keras.Sequential` as the functional one that it is; None for all else."""
    if isinstance(model, keras.Sequential) and hasattr(model, "inputs"):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model if isinstance(model, keras.Model) and hasattr(model, "operations") else None


def copy_model(model, replace=None, call=None):
    """A copy of a model, layer by layer, with the same weights.

    Args:
        model: a functional `keras.Model`; models inside it are copied too.
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

    holders = []

    def clone(layer):
        if as_functional(layer) is not None:
            return copy_model(layer, replace, call)
        other = replace and replace(layer)
        if other or not inner_layers(layer):
            return other or type(layer).from_config(layer.get_config())
        holders.append(HolderCopy(layer, clone_inside))
        return holders[-1].layer

    def clone_inside(layer):
        if as_functional(layer) is None and not inner_layers(layer):
            return (replace and replace(layer)) or type(layer).from_config(layer.get_config())
        return clone(layer)

    with deep_graph():
        copy = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in functional.layers:
        if layer.weights and as_functional(layer) is None:  # models inside have theirs
            copied = copy.get_layer(layer.name)
            holder = next((holder for holder in holders if holder.layer is copied), None)
            if holder:
                holder.set_weights()
            else:
                copied.set_weights(layer.get_weights())
    return copy
