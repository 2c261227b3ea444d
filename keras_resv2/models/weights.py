"""Reads the weights of a model by name, and matches them with those of a file.

Names are ``<layer>/<variable>``, such as ``stem_conv/kernel``. Units that run as a loop (`keras_resv2.models.scan`)
have the same names as in an unrolled network.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resv2.argument_checks import some
from keras_resv2.models.adapters import merged_weights

HEAD = "head_dense"


def weight_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's weights, ``<layer>/<variable>``, those of rolled units one by one."""
    return list(_variables(model))


def model_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model as a dictionary from ``<layer>/<variable>`` to float32 arrays.

    Low-rank adapters are merged into the kernels.

    Raises:
        ValueError: if a layer is quantized; the message names the layer.
    """
    arrays, stacks = {}, {}
    for name, weight in _variables(model).items():
        if isinstance(weight, _Part):
            if id(weight.stack) not in stacks:
                stacks[id(weight.stack)] = _to_numpy(weight.stack)
            arrays[name] = stacks[id(weight.stack)][weight.index]
        else:
            arrays[name] = _to_numpy(weight)
    for layer in model.layers:
        merged = merged_weights(layer)
        if merged is not None:
            arrays = {name: array for name, array in arrays.items() if not name.startswith(f"{layer.name}/lora_")}
            arrays |= {f"{layer.name}/{name}": array.astype("float32") for name, array in merged.items()}
    return arrays


def set_weights(model: keras.Model, arrays: Mapping[str, np.ndarray], source: str | os.PathLike) -> None:
    """Sets all weights of a model from arrays, or none of them.

    Args:
        model: a `keras.Model` of the same architecture as the arrays. A model without classifier ignores those of the
            classifier.
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        source: where the arrays come from, for messages.

    Raises:
        ValueError: if names or shapes differ; the message lists them. The model is unchanged.
    """
    stacks = {}
    for weight, array in match_weights(model, arrays, source).values():
        if isinstance(weight, _Part):
            stack, parts = stacks.setdefault(id(weight.stack), (weight.stack, {}))
            parts[weight.index] = array
        else:
            weight.assign(array)
    for stack, parts in stacks.values():
        stack.assign(np.stack([parts[index] for index in range(len(parts))]))


def match_weights(
    model: keras.Model, arrays: Mapping[str, np.ndarray], source: str | os.PathLike
) -> dict[str, tuple[Any, np.ndarray]]:
    """Pairs each weight of the model with its array.

    Args:
        model: see `set_weights`.
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        source: where the arrays come from, for the message.

    Raises:
        ValueError: if names or shapes differ; the message lists them.
    """
    variables = _variables(model)
    if not any(_is_head(name) for name in variables):
        arrays = {name: value for name, value in arrays.items() if not _is_head(name)}
    problems = _differences(variables, arrays)
    if problems:
        remedy = "Build the network that the file was saved from, with the same depth, activation and classes."
        if all(_is_head(name) for name in {*variables, *arrays} if _shape(variables, name) != _shape(arrays, name)):
            remedy = "Build the network with the classes of the file, or without classifier (include_top=False)."
        raise ValueError(
            f"{source} does not fit model {model.name!r}: {'; '.join(problems)}. The model is unchanged. {remedy}"
        )
    return {name: (variable, arrays[name]) for name, variable in variables.items()}


def _shape(arrays, name):
    return tuple(arrays[name].shape) if name in arrays else None


def _differences(variables, arrays):
    """Describes the mismatches between variables and arrays."""
    missing = [name for name in variables if name not in arrays]
    unexpected = [name for name in arrays if name not in variables]
    shapes = [
        f"{name} is {tuple(arrays[name].shape)} in the file, {tuple(variable.shape)} in the model"
        for name, variable in variables.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(variable.shape)
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} weights are not in the file ({some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} in the file are not in the model ({some(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} differ in shape ({some(shapes, '; ')})")
    return problems


def _is_head(name):
    return name.startswith(f"{HEAD}/")


@dataclasses.dataclass(frozen=True)
class _Part:
    """The weight of one unit within the stack of a rolled network."""

    stack: keras.Variable
    index: int

    @property
    def shape(self):
        return self.stack.shape[1:]


def _variables(model):
    """Returns the weights by name, those of rolled units as `_Part`."""
    found = {}
    for layer in model.layers:
        if hasattr(layer, "unit_weights"):
            found |= {name: _Part(*place) for name, place in layer.unit_weights().items()}
        else:
            own = {f"{layer.name}/{weight.name}": weight for weight in layer.weights}
            if len(own) < len(layer.weights):
                raise ValueError(
                    f"weights of {layer.name!r}, inside model {model.name!r}, share their names, but weight files tell "
                    "them apart by name: save a nested model, model.get_layer(...), separately."
                )
            found |= own
    return found


def _to_numpy(variable):
    return keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
