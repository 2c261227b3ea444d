"""Reads arrays and configurations of Keras weight files and saved models; code in files is not executed."""

import json
import zipfile

import h5py
import numpy as np

from keras_resv2.files import read_zip_member
from keras_resv2.storage.hdf5 import Refused, attribute, open_hdf5

VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}
MODEL_WEIGHTS, CONFIG = "model.weights.h5", "config.json"  # inside a .keras file
DEEPEST = 8  # models inside models


def read_keras(path):
    """Reads arrays by ``<layer>/<variable>``, from files of Keras 2 and Keras 3.

    Layers of a nested model are named ``<model>/<layer>/<variable>``.

    Args:
        path: of an HDF5 file (.h5, .weights.h5) or a .keras archive.

    Raises:
        ValueError: if it is damaged, or not such a file.
    """
    source = read_zip_member(path, MODEL_WEIGHTS) if zipfile.is_zipfile(path) else path
    with open_hdf5(source, str(path)) as file:
        if "format" in file.attrs:
            raise ValueError(f"{path} is a weight file of this package: give it to weights= of a builder.")
        group = _child(file, "model_weights", h5py.Group) if "model_weights" in file else file  # a model of Keras 2
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            return _legacy_layers(group)
        if "layers" in file:
            return _keras3_layers(_child(file, "layers", h5py.Group), path)
    raise ValueError(f"{path} is not a weight file of Keras: it has neither layer_names nor layers.")


def read_config(path):
    """Reads the configuration of a saved model; None for a file of weights.

    Raises:
        ValueError: if it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            there = CONFIG in archive.namelist()
        text = read_zip_member(path, CONFIG) if there else None
    else:
        with open_hdf5(path, str(path)) as file:
            text = attribute(file, "model_config") if "model_config" in file.attrs else None
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged: its configuration is not JSON.") from None


def layer_config(config, name, depth=0):
    """Returns the arguments of a layer in the configuration of a model; None without such a layer."""
    if not isinstance(config, dict) or depth > DEEPEST:
        return None
    inner = config.get("config")
    if not isinstance(inner, dict):
        return None
    if name in (inner.get("name"), config.get("name")) and "layers" not in inner:
        return inner
    layers = inner.get("layers")
    found = (layer_config(layer, name, depth + 1) for layer in (layers if isinstance(layers, list) else ()))
    return next((arguments for arguments in found if arguments is not None), None)


def _child(group, name, kind):
    """Returns a group or dataset inside a group."""
    item = group.get(name)
    if not isinstance(item, kind):
        wanted = "a group" if kind is h5py.Group else "an array"
        raise Refused(f"is damaged: {group.name.rstrip('/')}/{name} is not {wanted}.")
    return item


def _legacy_layers(group):
    """Reads files of Keras 2, where names of variables are paths, with ":0" from TensorFlow."""
    arrays = {}
    for layer in _names(group, "layer_names"):
        inner = _child(group, layer, h5py.Group)
        names = _names(inner, "weight_names")
        owners = {name: name.split("/")[-2] if "/" in name else layer for name in names}
        nested = len(set(owners.values())) > 1  # a model inside the model: its layers have names of their own
        prefixes = {name: f"{layer}/{owners[name]}" if nested else layer for name in names}
        keys = {name: f"{prefixes[name]}/{name.split('/')[-1].partition(':')[0]}" for name in names}
        if len(set(keys.values())) < len(keys):  # layers inside layers: their whole path tells them apart
            keys = {name: _path_from(layer, name).partition(":")[0] for name in names}
        arrays.update({key: _child(inner, name, h5py.Dataset)[()] for name, key in keys.items()})
    return arrays


def _path_from(layer, name):
    """The path of a weight from a layer on; a layer that repeats its name counts once."""
    rest = name.partition(f"{layer}/")[2] or name
    return rest if rest.startswith(f"{layer}/") else f"{layer}/{rest}"


def _names(group, prefix):
    """Reads a list of names, which is split if it is long."""
    parts = [prefix] if prefix in group.attrs else []
    while f"{prefix}{len(parts)}" in group.attrs:
        parts.append(f"{prefix}{len(parts)}")
    values = [value for part in parts for value in np.ravel(attribute(group, part))]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keras3_layers(layers, path, depth=0):
    """Reads files of Keras 3: groups of layers have their name as an attribute; variables are numbered."""
    arrays = {}
    for key in layers:
        group = _child(layers, key, h5py.Group)
        if "layers" in group and depth < DEEPEST:
            inner = _keras3_layers(_child(group, "layers", h5py.Group), path, depth + 1)
            arrays.update({f"{key}/{name}": array for name, array in inner.items()})
            continue
        if "vars" not in group:
            continue
        variables = _child(group, "vars", h5py.Group)
        names = VARIABLES.get(len(variables), ())
        if names and "name" not in variables.attrs:
            raise ValueError(
                f"{path} does not name its layers, as files of early Keras 3 do not: load it into the "
                "model of keras.applications, and give that."
            )
        layer = attribute(variables, "name") if names else None
        arrays.update({f"{layer}/{name}": _child(variables, str(i), h5py.Dataset)[()] for i, name in enumerate(names)})
    return arrays
