"""Functional graphs: building deep ones, the calls in them, the layers inside layers."""

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


def as_functional(model):
    """The model, a `keras.Sequential` as the functional one that it is; None for all else."""
    if isinstance(model, keras.Sequential) and hasattr(model, "inputs"):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model if isinstance(model, keras.Model) and hasattr(model, "operations") else None


def check_functional(model):
    """The functional model that a model is.

    Raises:
        ValueError: it is not a functional one.
    """
    functional = as_functional(model)
    if functional is None:
        raise ValueError(f"{model!r} is not a functional keras.Model, as the builders of keras_resv2 make them.")
    return functional
