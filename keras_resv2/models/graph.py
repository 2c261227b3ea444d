"""Functional graphs: building deep ones, listing calls, and finding nested layers."""

import contextlib
import gc
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras

# Keras traverses a graph recursively, with up to eight calls per unit of a network; there are up to 600 units.
RECURSION_LIMIT = 20_000
POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)  # of the head
# Others have an attribute `data_format` too, which may be the global setting or, in padding, other axes.
_WITH_DATA_FORMAT = (
    keras.layers.Conv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    *POOLINGS,
)
UNIT = re.compile(r"(stage(\d+)_unit(\d+))_.*")  # names of the layers of residual units


@contextlib.contextmanager
def deep_graph() -> Iterator[None]:
    """Context manager for building graphs of thousands of layers.

    It raises Python's recursion limit, which `keras.Model` reaches at 1,202 layers; pauses the garbage collector, which
    would scan the growing graph again and again; and on TensorFlow gives all variables the same name inside the
    runtime, which would otherwise compile an operation for each name. Their names in Keras are unchanged. Use it for
    operations of Keras on the graph of `ResNet1202`, such as loading a saved model or adding layers to it.

    Example:

    >>> with deep_graph():
    ...     model = keras.Model(inputs := keras.Input((1,)), inputs)
    >>> with deep_graph():
    ...     model = keras.models.load_model("resnet1202.keras")  # doctest: +SKIP
    """
    with _INTERPRETER, _one_variable_name():
        yield


class _Interpreter:
    """The interpreter's settings while graphs are built. They are global: threads that build at the same time
    share them, and the last one to finish restores the original values."""

    def __init__(self):
        self._lock, self._inside, self._found = threading.Lock(), 0, (0, False)

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
        return contextlib.nullcontext()  # there the name identifies a variable
    # The trailing slash keeps TensorFlow from prepending the name scope.
    return tf.variable_creator_scope(lambda create, **arguments: create(**{**arguments, "name": "variable/"}))


def calls(model: Any) -> list[Any]:
    """Lists the calls of a model's layers, inputs first.

    Args:
        model: a functional `keras.Model`.

    Returns:
        List of Keras nodes: `operation` is the layer; `input_tensors`, `arguments` and `outputs` are those of the call.

    Example:

    >>> x = keras.Input((4,))
    >>> [type(node.operation).__name__ for node in calls(keras.Model(x, keras.layers.Dense(2)(x)))]
    ['InputLayer', 'Dense']
    """
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def unit_calls(model: Any) -> dict[str, list[Any]]:
    """Groups the calls of a model's layers by residual unit, as their names tell: ``stage1_unit1_...``.

    Args:
        model: a functional `keras.Model`.

    Returns:
        Dictionary from names of units, such as "stage1_unit1", to lists of Keras nodes; both in the order of the graph.
        Empty for a model without residual units.

    Example:

    >>> import keras_resv2
    >>> list(unit_calls(keras_resv2.ResNet(8)))
    ['stage1_unit1', 'stage2_unit1', 'stage3_unit1']
    """
    units = {}
    for node in calls(model):
        match = UNIT.fullmatch(node.operation.name)
        if match:
            units.setdefault(match[1], []).append(node)
    return units


def is_cast(node: Any) -> bool:
    """Returns whether a call only casts its input: Keras up to 3.8 keeps the casts of mixed precision in the graph."""
    kept = type(node.operation).__name__ == "Cast" and not isinstance(node.operation, keras.Layer)
    return kept and all(keras.backend.is_float_dtype(x.dtype) for x in (*node.input_tensors, *node.outputs))


def inner_layers(layer: Any) -> list[Any]:
    """Lists the layers directly inside a layer: a model, a wrapper or a custom layer.

    Args:
        layer: a `keras.layers.Layer` or `keras.Model`.

    Returns:
        List of layers, in graph order for a functional model, otherwise in order of creation.

    Example:

    >>> [layer.name for layer in inner_layers(keras.layers.TimeDistributed(keras.layers.Dense(2, name="each")))]
    ['each']
    """
    return list(layer.layers if isinstance(layer, keras.Model) else getattr(layer, "_layers", ()))


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the weights of a layer that do not belong to a layer inside it."""
    inner = {id(weight) for inside in inner_layers(layer) for weight in inside.weights}
    return [weight for weight in layer.weights if id(weight) not in inner]


def all_layers(layer: keras.layers.Layer) -> Iterator[Any]:
    """Yields all layers nested inside a layer, parents first.

    Example:

    >>> inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="scores")], name="inner")
    >>> [each.name for each in all_layers(keras.layers.TimeDistributed(inner))]
    ['inner', 'scores']
    """
    for inside in inner_layers(layer):
        yield inside
        yield from all_layers(inside)


def as_functional(model: Any) -> keras.Model | None:
    """Returns a functional model, or the functional model of a `keras.Sequential`; None for anything else."""
    if isinstance(model, keras.Sequential):
        try:
            model.inputs  # noqa: B018
        except (AttributeError, ValueError):  # it has no input shape; older versions of Keras raise ValueError
            return None
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model if isinstance(model, keras.Model) and hasattr(model, "operations") else None


def check_functional(model: Any) -> keras.Model:
    """Returns a model as a functional model.

    Raises:
        ValueError: if it is not functional.
    """
    functional = as_functional(model)
    if functional is None:
        if isinstance(model, keras.Sequential):
            raise ValueError(
                f"{model!r} is not a functional model, as it has no input shape: start it with keras.Input."
            )
        raise ValueError(f"{model!r} is not a functional keras.Model, such as the builders of keras_resv2 return.")
    return functional


def data_format_of(model: keras.Model) -> str:
    """Returns the order of the axes of a model's feature maps, whatever the global setting is.

    Args:
        model: a functional `keras.Model`, which may contain others.

    Returns:
        "channels_last" or "channels_first"; the global setting for a model without convolutions and poolings.

    Example:

    >>> import keras_resv2
    >>> data_format_of(keras_resv2.ResNet(8))
    'channels_last'
    """
    found = (layer.data_format for layer in all_layers(model) if isinstance(layer, _WITH_DATA_FORMAT))
    return next(found, keras.config.image_data_format())


def changes_size(x: Any, y: Any, layers: Iterable[Any]) -> bool:
    """Returns whether the feature maps `y` have another shape than `x`, from which the layers compute them.

    Sides of unknown length do not show this, so the strides of convolutions and poolings count too.
    """
    return x.shape != y.shape or any(max(keras.tree.flatten(getattr(layer, "strides", 1))) > 1 for layer in layers)


def activation_name(layer: keras.layers.Layer) -> str:
    """Returns the name of a layer's activation, such as "softmax"; "linear" for none.

    Example:

    >>> activation_name(keras.layers.Dense(2, activation=keras.layers.Softmax()))
    'softmax'
    """
    activation = layer if isinstance(layer, keras.layers.Softmax) else getattr(layer, "activation", None)
    if isinstance(activation, keras.layers.Softmax):
        return "softmax"
    return "linear" if activation is None else getattr(activation, "__name__", type(activation).__name__)
