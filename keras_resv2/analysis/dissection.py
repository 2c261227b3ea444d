"""Splits a residual network into stem, units with their shortcuts and branches, and head.

The parts compute the same as the model's layers, on copies of its weights; the model is not modified. Units with the
same structure share one compiled program, so that a network of 54 units compiles only a few.
"""

import dataclasses
import functools
import json
import re
from typing import Any

import keras

from keras_resv2.analysis.programs import Program
from keras_resv2.models.graph import (
    POOLINGS,
    UNIT,
    activation_name,
    as_functional,
    calls,
    changes_size,
    deep_graph,
    is_cast,
)
from keras_resv2.models.pixels import pixel_scale
from keras_resv2.models.scan import is_rolled

SQUASHING = ("softmax", "sigmoid")  # activations of classifiers
NAMES = (
    "stage1_unit1_..., stage1_unit2_..., ...; of each unit the addition of shortcut and branch is stage1_unit1_add, "
    "with the shortcut first"
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A group of layers of a model as a function.

    Attributes:
        program: `Program` that evaluates the layers for any weights.
        values: weights, as tensors of the backend.
        layers: names of the layers.
        structure: text that parts with the same layers, whatever their names and weights, have in common.
    """

    program: Program
    values: list
    layers: tuple
    structure: str

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Computes the output for `x`, a tensor of the backend, without updating moving statistics."""
        return self.program(self.values, x, training)

    def vjp(self, x: Any, cotangent: Any, training: bool = False) -> Any:
        """Computes the gradient of the sum of output times cotangent with respect to x (a vector-Jacobian product)."""
        return self.program.vjp(self.values, x, cotangent, training)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A residual unit: ``y = after(shortcut(x) + branch(x))``.

    Attributes:
        name: name of the unit, such as "stage2_unit3".
        stage: number of the stage, from 1.
        shortcut: `Part` for h, with its scale, gate or dropout; None for the identity.
        branch: `Part` for F, with its scale or gate.
        after: `Part` for the layers after the addition; None if there are none.
        gate: `Part` for the factor of x computed by a gate, ``1 - g(x)``; None without a gate.
        plain: whether the unit has no shortcut and consists only of its branch.
        input_shape, output_shape: shapes of the feature maps, without the batch dimension.
        changes_size: whether the feature maps of the output have another shape than those of the input.
    """

    name: str
    stage: int
    shortcut: Part | None
    branch: Part
    after: Part | None
    gate: Part | None
    plain: bool
    input_shape: tuple
    output_shape: tuple
    changes_size: bool

    @property
    def deletable(self) -> bool:
        """Whether the unit can be deleted: false for a plain unit that changes the size."""
        return not (self.plain and self.changes_size)

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Computes the output of the unit."""
        y = self.branch(x, training)
        if not self.plain:
            y = y + (x if self.shortcut is None else self.shortcut(x, training))
        return y if self.after is None else self.after(y, training)

    def without_branch(self, x: Any) -> Any:
        """Computes the output of the deleted unit: shortcut and following layers; for a plain unit, x."""
        if self.plain:
            return x
        y = x if self.shortcut is None else self.shortcut(x)
        return y if self.after is None else self.after(y)


@dataclasses.dataclass(frozen=True)
class Dissection:
    """The parts of a network.

    Attributes:
        name: name of the model.
        stem: `Part` from images to the first unit.
        units: list of `Unit`.
        head: `Part` from the last unit to the class scores before the softmax or sigmoid.
        classifies: whether the head ends with weights of its own after the pooling, instead of pooled features.
        pixels: which pixels the network expects, see `keras_resv2.models.pixels.pixel_scale`.
    """

    name: str
    stem: Part
    units: list[Unit]
    head: Part
    classifies: bool
    pixels: str

    def stages(self) -> dict[int, list[int]]:
        """Returns a dictionary from the number of a stage to the positions of its units.

        Example:

        >>> import keras_resv2
        >>> dissect(keras_resv2.ResNet(14)).stages()
        {1: [0, 1], 2: [2, 3], 3: [4, 5]}
        """
        numbers = sorted({unit.stage for unit in self.units})
        return {number: [i for i, unit in enumerate(self.units) if unit.stage == number] for number in numbers}


def dissect(model: keras.Model) -> Dissection:
    """Splits a network into its parts.

    Args:
        model: a functional `keras.Model` with the layer names of this package: pretrained, fine-tuned or new, with any
            shortcut and activation order, folded or not; not rolled.

    Returns:
        `Dissection`.

    Raises:
        ValueError: if the model has no residual units, is rolled, is a folded plain pre-activation network, or (with
            Keras up to 3.8) uses mixed precision; the message says which names are required.

    Example:

    >>> import keras_resv2
    >>> [unit.name for unit in dissect(keras_resv2.ResNet(8)).units]
    ['stage1_unit1', 'stage2_unit1', 'stage3_unit1']
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(f"{model!r} is not a functional keras.Model: analysis needs a network built by keras_resv2.")
    if is_rolled(model):
        raise ValueError(f"model {model.name!r} is rolled: build it without rolled=True, from the same weights.")
    if any(is_cast(node) for node in calls(model)):
        raise ValueError(
            f"model {model.name!r} uses mixed precision, which Keras {keras.__version__} stores in the graph: build it "
            'with dtype="float32", from the same weights, or upgrade Keras.'
        )
    groups = {}
    for layer in model.layers:  # in topological order
        match = UNIT.fullmatch(layer.name)
        if match:
            groups.setdefault(match[1], []).append(layer)
    _check_folded(model, groups)
    if not groups:
        inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        also = f" Or pass the nested model: model.get_layer({inner[0]!r})." if inner else ""
        raise ValueError(f"model {model.name!r} has no residual units. Its layers must be named {NAMES}.{also}")
    programs = {}
    with deep_graph():
        order = {layer.name: i for i, layer in enumerate(model.layers)}
        names = sorted(groups, key=lambda name: order[groups[name][-1].name])
        units, x = [], _source(groups[names[0]])
        stem = _part(model.layers, _input(model), x, programs)
        for name in names:
            if _source(groups[name]) is not x:
                raise ValueError(f"unit {name} of model {model.name!r} does not follow the unit before it. {_needed()}")
            units.append(_unit(name, groups[name], x, programs))
            x = groups[name][-1].output
        head = _head(model, x, programs)
    return Dissection(model.name, stem, units, head, _classifies(model, head), pixel_scale(model))


def _check_folded(model, groups):
    """Raises ValueError if batch normalization was folded into the previous unit, which then is not one of the paper's.

    In networks with shortcuts, only that of the first unit is folded, into the stem, which no study deletes.
    """
    names = {name: {layer.name.removeprefix(f"{name}_") for layer in layers} for name, layers in groups.items()}
    for name, own in names.items():
        normalized = any(re.fullmatch(r"(preact_)?bn\d?", rest) for rest in own)
        if "preact_relu" in own and "add" not in own and not normalized:
            raise ValueError(
                f"unit {name} of model {model.name!r} has no batch normalization: analyze the model before folding it."
            )


def _needed():
    return f"Layers must be named {NAMES}."


def _source(layers):
    """Returns the only tensor that a unit's layers read but do not compute."""
    made = {id(layer.output) for layer in layers}
    read = {id(x): x for layer in layers for x in keras.tree.flatten(layer.input) if id(x) not in made}
    if len(read) != 1:
        raise ValueError(
            f"the layers {layers[0].name} to {layers[-1].name} have {len(read)} input tensors. {_needed()}"
        )
    return next(iter(read.values()))


def _unit(name, layers, x, programs):
    output, stage = layers[-1].output, int(UNIT.sub(r"\2", layers[0].name))
    unit = functools.partial(
        Unit,
        name,
        stage,
        input_shape=tuple(x.shape[1:]),
        output_shape=tuple(output.shape[1:]),
        changes_size=changes_size(x, output, layers),
    )
    additions = [layer for layer in layers if layer.name == f"{name}_add"]
    if not additions:
        branch = _part(layers, x, output, programs)
        return unit(shortcut=None, branch=branch, after=None, gate=None, plain=True)
    shortcut, branch = additions[0].input
    total = additions[0].output
    carries = [layer.output for layer in layers if layer.name == f"{name}_gate_carry"]
    return unit(
        shortcut=None if shortcut is x else _part(layers, x, shortcut, programs),
        branch=_part(layers, x, branch, programs),
        after=None if total is output else _part(layers, total, output, programs),
        gate=_part(layers, x, carries[0], programs) if carries else None,
        plain=False,
    )


def _input(model):
    if len(model.inputs) != 1:
        raise ValueError(
            f"model {model.name!r} has {len(model.inputs)} inputs: analysis needs a single input of images."
        )
    return model.inputs[0]


def _classifies(model, head):
    """Returns whether a layer with weights reads the pooled features."""
    layers = [layer for layer in model.layers if layer.name in head.layers]
    pooled = [i for i, layer in enumerate(layers) if isinstance(layer, POOLINGS)]
    return not pooled or any(layer.weights for layer in layers[pooled[-1] + 1 :])


def _head(model, x, programs):
    outputs = keras.tree.flatten(model.output)
    if len(outputs) != 1:
        raise ValueError(
            f"model {model.name!r} has {len(outputs)} outputs: analysis needs a single output of class scores."
        )
    output = outputs[0]
    last = next((layer for layer in model.layers if layer.output is output), None)
    if last is None or as_functional(last) is not None:
        raise ValueError(
            f"the class scores of model {model.name!r} are computed by a model inside it or by an operation that is "
            "not a layer: analysis needs a classifier of layers after the last unit."
        )
    if isinstance(last, keras.layers.Softmax):
        output = last.input
    return _part(model.layers, x, output, programs, scores=True)


def _part(layers, x, output, programs, scores=False):
    """Creates a `Part` of the layers between two tensors; parts with the same structure share a program."""
    needed = _between(layers, x, output)
    configs = [_config(layer, scores and layer is needed[-1]) for layer in needed]
    descriptions = [[type(layer).__name__, {**c, "name": None}] for layer, c in zip(needed, configs, strict=True)]
    key = json.dumps([list(x.shape), x.dtype, descriptions, _wiring(needed, x)], default=str, sort_keys=True)
    if key not in programs:
        programs[key] = _program(needed, configs, x, output)
    # Copied values: on TensorFlow and PyTorch the value of a variable changes in place.
    values = [keras.ops.copy(variable.value) for layer in needed for variable in layer.variables]
    return Part(programs[key], values, tuple(layer.name for layer in needed), key)


def _between(layers, x, output):
    """Returns the layers between x and the output, in topological order."""
    makers = {id(layer.output): layer for layer in layers}
    needed, waiting = set(), [output]
    while waiting:
        tensor = waiting.pop()
        layer = makers.get(id(tensor))
        if tensor is x or (layer and layer.name in needed):
            continue
        if layer is None or isinstance(layer, keras.layers.InputLayer):
            raise ValueError(f"{output.name} depends on more than {x.name}. {_needed()}")
        needed.add(layer.name)
        waiting += keras.tree.flatten(layer.input)
    return [layer for layer in layers if layer.name in needed]


def _config(layer, scores):
    """Returns the configuration of a layer; for a classifier without its softmax or sigmoid."""
    config = layer.get_config()
    if scores and hasattr(layer, "activation") and activation_name(layer) in SQUASHING:
        config["activation"] = "linear"
    if isinstance(layer, keras.layers.BatchNormalization):
        config["trainable"] = True  # of frozen layers Keras uses the moving statistics in training too
    return config


def _wiring(layers, x):
    """Returns the positions of each layer's inputs; 0 is x."""
    place = {id(x): 0, **{id(layer.output): i for i, layer in enumerate(layers, start=1)}}
    return [[place[id(tensor)] for tensor in keras.tree.flatten(layer.input)] for layer in layers]


def _program(layers, configs, x, output):
    """Rebuilds the layers; their weights are not used."""
    # A stem that reads integers gets floats, for gradients with respect to the pixels.
    start = keras.Input(x.shape[1:], dtype=x.dtype if keras.backend.is_float_dtype(x.dtype) else "float32")
    tensors, copies = {id(x): start}, []
    for layer, config in zip(layers, configs, strict=True):
        copies.append(type(layer).from_config(config))
        arguments = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], layer.input)
        tensors[id(layer.output)] = copies[-1](arguments)
    model = keras.Model(start, tensors[id(output)])
    return Program(model, [variable for copy in copies for variable in copy.variables])
