"""The weight file: one HDF5 array of all parameters, and an index of their names.

    values   float32, (n,)   every parameter and moving statistic, one after another
    index    JSON text       [{"name": "stem_conv/kernel", "shape": [3, 3, 3, 16], "offset": 0}, ...]

A file of half the size has its kernels in a second array (``"array": "half"`` in the index):

    half     float16, (m,)   kernels, one after another

Names are ``<layer>/<variable>``, so a file fits any model with the same layer names, whatever the
backend. One array keeps the file as large as its parameters (Keras' own files add a group to
each variable, which tells in deep networks) and makes reading it one call.
"""

import dataclasses
import json
import math
import os

import h5py
import numpy as np

from keras_resv2.choices import some

FORMATS = FORMAT, FORMAT_WITH_HALF = "keras-resv2 weights 1", "keras-resv2 weights 2"
PARTS = "values", "half"
HEAD = "head_dense"


def save_weights(model, path):
    """Writes all weights of `model`, as float32, to an HDF5 file.

    The file appears whole or not at all.

    Args:
        model: a `keras.Model` whose layers have unique names.
        path: of the file; an existing one is replaced.
    """
    write_weights(model_arrays(model), path)


def model_arrays(model):
    """The weights of a model as `write_weights` takes them: float32 arrays by name."""
    arrays, stacks = {}, {}
    for name, weight in _variables(model).items():
        if isinstance(weight, _Part):
            if id(weight.stack) not in stacks:
                stacks[id(weight.stack)] = _to_numpy(weight.stack)
            arrays[name] = stacks[id(weight.stack)][weight.index]
        else:
            arrays[name] = _to_numpy(weight)
    return arrays


def write_weights(arrays, path, half=False):
    """Writes arrays as a weight file, whole or not at all.

    Args:
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        path: of the file; an existing one is replaced.
        half: whether kernels are rounded to float16. All else (biases, batch normalisation) stays
            float32.

    Raises:
        ValueError: a kernel is too large for float16.
    """
    index, parts = [], {name: [] for name in PARTS}
    offsets = dict.fromkeys(parts, 0)
    for name, array in arrays.items():
        part = "half" if half and name.endswith("/kernel") else "values"
        entry = {"name": name, "shape": list(array.shape), "offset": offsets[part]}
        index.append({**entry, "array": part} if half else entry)
        parts[part].append(np.ravel(array))
        offsets[part] += array.size
    if half and max((np.abs(kernel).max() for kernel in parts["half"]), default=0) > np.finfo("float16").max:
        raise ValueError("a kernel has values beyond the range of float16.")
    partial = f"{path}.part"
    with h5py.File(partial, "w", libver="latest") as file:
        file.attrs["format"] = FORMAT_WITH_HALF if half else FORMAT
        file["index"] = json.dumps(index)
        file["values"] = np.concatenate(parts["values"]).astype("float32")
        if half:
            file["half"] = np.concatenate(parts["half"]).astype("float16")
    os.replace(partial, path)


def read_weights(path):
    """The arrays in a weight file, by name.

    Args:
        path: of a file that `save_weights` or `write_weights` wrote.

    Returns:
        Dictionary from ``<layer>/<variable>`` to a float32 array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a weight file, or a damaged one.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"weight file {path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            made = file.attrs.get("format")
            if made in FORMATS:
                index = json.loads(file["index"][()])
                parts = {name: file[name][()].astype("float32") for name in PARTS if name in file}
                return {entry["name"]: _array(entry, parts) for entry in index}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"weight file {path} is damaged or not HDF5: {error}") from None
    raise ValueError(
        f"{path} is not a keras-resv2 weight file: its format {made!r} is none of {', '.join(FORMATS)}. "
        "keras_resv2.save_weights writes such files; what Keras' save_weights wrote goes into model.load_weights."
    )


def _array(entry, parts):
    values = parts[entry.get("array", PARTS[0])][entry["offset"] :][: math.prod(entry["shape"])]
    return values.reshape(entry["shape"])


def load_weights(model, path):
    """Sets the weights of `model` from a weight file: all of them, or none.

    Args:
        model: a `keras.Model` of the architecture that the file was made from. A model without
            classifier takes the rest.
        path: of the file.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`.
        ValueError: names or shapes differ; the message says which. The model is unchanged.
    """
    stacks = {}
    for weight, array in fitting(model, read_weights(path), path):
        if isinstance(weight, _Part):
            stack, parts = stacks.setdefault(id(weight.stack), (weight.stack, {}))
            parts[weight.index] = array
        else:
            weight.assign(array)
    for stack, parts in stacks.values():
        stack.assign(np.stack([parts[index] for index in range(len(parts))]))


def fitting(model, arrays, source):
    """Pairs of a weight of the model and its array.

    Args:
        model: as `load_weights` takes it.
        arrays: as `read_weights` gives them.
        source: where they come from, for the message.

    Raises:
        ValueError: names or shapes differ; the message says which.
    """
    variables = _variables(model)
    if not any(_is_head(name) for name in variables):
        arrays = {name: value for name, value in arrays.items() if not _is_head(name)}
    problems = _differences(variables, arrays)
    if problems:
        raise ValueError(f"{source} does not fit model {model.name!r}: {'; '.join(problems)}. The model is unchanged.")
    return [(variable, arrays[name]) for name, variable in variables.items()]


def _differences(variables, arrays):
    """What keeps the arrays from being the variables' values, as phrases."""
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
    """The weight of one unit in the stack of a rolled network."""

    stack: object
    index: int

    @property
    def shape(self):
        return self.stack.shape[1:]


def _variables(model):
    """Weights by name; those of rolled units as `_Part`."""
    found = {}
    for layer in model.layers:
        if hasattr(layer, "unit_weights"):
            found |= {name: _Part(*place) for name, place in layer.unit_weights().items()}
        else:
            own = {f"{layer.name}/{weight.name}": weight for weight in layer.weights}
            if len(own) < len(layer.weights):
                raise ValueError(
                    f"weights of {layer.name!r}, inside model {model.name!r}, share their names, and weight files tell "
                    "them apart by name: save a model that is inside another, model.get_layer(...), by itself."
                )
            found |= own
    return found


def _to_numpy(variable):
    import keras

    return keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))


def count_trainable(arrays):
    """Trainable parameters among arrays by name: all but moving statistics."""
    return sum(math.prod(array.shape) for name, array in arrays.items() if "/moving_" not in name)
