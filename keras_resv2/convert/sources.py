"""Tensors by name, from files and objects of other libraries. Nothing that a file says is run."""

import json
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping

import h5py
import keras
import numpy as np

from keras_resv2.choices import first_line
from keras_resv2.files import check_regular, check_zip, open_regular, read_limit, read_zip_member
from keras_resv2.pretrained.hdf5 import Refused, attribute, open_hdf5

PYTORCH_FILES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
KERAS_FILES = (".h5", ".hdf5", ".keras")
SAFETENSORS = ".safetensors"

# Arguments of `ResNet` that a state dict does not say; and where a .safetensors file of this package does.
STRUCTURE = ("projection", "stride_on", "stem", "preprocessing", "stride_in", "conv_bias", "activated_shortcuts")
STRUCTURE_KEY = "keras_resv2"

# Keys under which checkpoints hold the state dict, and words that wrappers put before each name.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "state_dict_ema", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "resnet.")
OTHER_OBJECTS = ("unsupported global", "unsupported class", "not an allowed global", "is blocked")  # PyTorch's words
DEEPEST = 8  # dictionaries around a state dict
COUNTERS = ("num_batches_tracked", "n_averaged")  # of training; networks do not depend on them
KERAS_VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}


def read_tensors(source):
    """The tensors of a file or an object.

    Args:
        source: path of a PyTorch file (.pt, .pth, ...), a .safetensors file or a Keras weight file (.h5,
            .weights.h5) or model (.keras); a dictionary of arrays or tensors, as a `state_dict()`, or one that holds it
            under "state_dict", "model" or the like; a PyTorch module; or a `keras.Model`.

    Returns:
        ``(tensors, label)``: dictionary from names to float32 arrays, and what to call the source in a
        message. Names are those of the library, without the words that wrappers put before them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds other objects than tensors, or has none.
        ImportError: reading it takes a package that is not installed.
    """
    limit = math.inf
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        content, label = _read_file(path), str(path)
        limit = read_limit(path.stat().st_size)
    elif isinstance(source, keras.Model):
        content = {f"{layer.name}/{weight.name}": weight for layer in source.layers for weight in layer.weights}
        label = f"model {source.name!r}"
    else:
        content, label = source.state_dict() if hasattr(source, "state_dict") else source, "the dictionary"
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} holds a {type(content).__name__}: weights are a path, a dictionary or a model.")
    tensors = {name: value for name, value in _unwrap(content).items() if _is_tensor(name, value)}
    needed = sum(_check_tensor(name, value, label) for name, value in tensors.items())
    if needed > limit:
        raise ValueError(f"{label} declares {needed:,} bytes of tensors: more than weights in a file of its size.")
    tensors = {name: _to_numpy(name, value, label) for name, value in tensors.items()}
    if not tensors:
        raise ValueError(
            f"{label} holds no tensors; its entries are {', '.join(map(str, list(content)[:5])) or 'none'}."
        )
    return _without_prefixes(tensors), label


def _read_file(path):
    check_regular(path)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix in KERAS_FILES:
        return _read_keras(path)
    if path.suffix in PYTORCH_FILES:
        return _read_pytorch(path)
    endings = ", ".join((*PYTORCH_FILES, SAFETENSORS, *KERAS_FILES))
    raise ValueError(f"{path} has none of the endings that are read: {endings}.")


def _read_pytorch(path):
    try:
        import torch
    except ImportError:
        raise ImportError(f"reading {path} takes PyTorch: pip install torch.") from None
    if _starts_as_zip(path):
        check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it raises what its unpickler meets: RuntimeError, EOFError, KeyError, ...
        said = str(error).lower()
        if "torchscript" in said:
            raise ValueError(
                f"{path} is a TorchScript archive, which holds code: torch.save(torch.jit.load(p).state_dict(), new) "
                "writes its tensors alone."
            ) from None
        if any(words in said for words in OTHER_OBJECTS):
            raise ValueError(
                f"{path} holds Python objects besides tensors, and reading those may run code. Where it comes from, "
                "write the tensors alone: torch.save(model.state_dict(), path)."
            ) from None
        # PyTorch's text on loading weights alone goes on for long.
        reason = type(error).__name__ if "Weights only load failed" in str(error) else first_line(error)
        raise ValueError(f"{path} is damaged or no PyTorch file: {reason}") from None


def _read_safetensors(path):
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError(f"reading {path} takes safetensors: pip install safetensors.") from None
    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, OSError, MemoryError) as error:
        raise ValueError(f"{path} is damaged, or has a type of numbers that NumPy does not have: {error}") from None


def read_structure(source):
    """Arguments of `ResNet` that a .safetensors file of this package says of its network; none of other sources."""
    if not isinstance(source, (str, os.PathLike)) or pathlib.Path(source).suffix != SAFETENSORS:
        return {}
    from safetensors import safe_open

    with safe_open(source, "numpy") as file:
        text = (file.metadata() or {}).get(STRUCTURE_KEY, "{}")
    try:
        said = json.loads(text)
        return {name: said[name] for name in STRUCTURE if name in said}
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            f"{source} says in its metadata that its network is {text[:80]!r}, which cannot be read."
        ) from None


def _starts_as_zip(path):
    with open_regular(path) as file:
        return file.read(4) == b"PK\x03\x04"


def _read_keras(path):
    """Arrays by ``<layer>/<variable>``, from Keras 2's files and those of Keras 3."""
    source = read_zip_member(path, "model.weights.h5") if zipfile.is_zipfile(path) else path
    with open_hdf5(source, str(path)) as file:
        if "format" in file.attrs:
            raise ValueError(f"{path} is a weight file of this package: give it to weights= of a builder.")
        group = _child(file, "model_weights", h5py.Group) if "model_weights" in file else file  # a model of Keras 2
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            return _legacy_layers(group)
        if "layers" in file:
            return _keras3_layers(_child(file, "layers", h5py.Group), path)
    raise ValueError(f"{path} is not a weight file of Keras: it has neither layer_names nor layers.")


def _child(group, name, kind):
    """A group or dataset inside a group, by its path there."""
    item = group.get(name)
    if not isinstance(item, kind):
        wanted = "a group" if kind is h5py.Group else "an array"
        raise Refused(f"is damaged: {group.name.rstrip('/')}/{name} is not {wanted}.")
    return item


def _legacy_layers(group):
    """Names of variables are paths that end in the variable's, with ":0" from TensorFlow."""
    layers = {layer: _child(group, layer, h5py.Group) for layer in _names(group, "layer_names")}
    return {
        f"{layer}/{name.split('/')[-1].partition(':')[0]}": _child(inner, name, h5py.Dataset)[()]
        for layer, inner in layers.items()
        for name in _names(inner, "weight_names")
    }


def _names(group, prefix):
    """A list of names, which long lists have in parts."""
    parts = [prefix] if prefix in group.attrs else []
    while f"{prefix}{len(parts)}" in group.attrs:
        parts.append(f"{prefix}{len(parts)}")
    values = [value for part in parts for value in np.ravel(attribute(group, part))]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keras3_layers(layers, path):
    """Layers are numbered by class, and say their own name; variables are numbered."""
    arrays = {}
    for key in layers:
        group = _child(layers, key, h5py.Group)
        variables = _child(group, "vars", h5py.Group) if "vars" in group else {}
        names = KERAS_VARIABLES.get(len(variables), ())
        if names and "name" not in variables.attrs:
            raise ValueError(
                f"{path} does not name its layers, as files of early Keras 3 do not: load it into the "
                "model of keras.applications, and give that."
            )
        layer = attribute(variables, "name") if names else None
        arrays.update({f"{layer}/{name}": _child(variables, str(i), h5py.Dataset)[()] for i, name in enumerate(names)})
    return arrays


def _unwrap(content):
    for _ in range(DEEPEST):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content
        content = inner
    raise ValueError(f"a dictionary of tensors lies more than {DEEPEST} dictionaries deep, or holds itself.")


def _is_tensor(name, value):
    return isinstance(name, str) and hasattr(value, "shape") and not name.endswith(COUNTERS)


def _check_tensor(name, value, label):
    """Bytes that a tensor takes as float32; ValueError unless it is a plain one, whose values are all there."""
    kind = _unusual_kind(value)
    if kind:
        raise ValueError(f"{label}: {name} is a {kind} tensor; weights are plain tensors of numbers.")
    size = math.prod(value.shape)
    if hasattr(value, "untyped_storage") and size * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{label}: {name} has the shape {tuple(value.shape)}, and fewer values are stored.")
    return size * np.dtype("float32").itemsize


def _unusual_kind(value):
    """What keeps an array or tensor, of PyTorch too, from being weights; None for plain ones."""
    if hasattr(value, "detach"):  # PyTorch's, without importing it
        kinds = {
            "sparse": str(value.layout) != "torch.strided",
            "quantized": value.is_quantized,
            "meta": value.device.type == "meta",
            "nested": value.is_nested,
            "complex": value.is_complex(),
        }
        return next((kind for kind, holds in kinds.items() if holds), None)
    if isinstance(value, np.ndarray) and value.dtype.kind in "cOSUMm":
        return value.dtype.name
    return None


def _to_numpy(name, value, label):
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()  # NumPy has no bfloat16
    try:
        return np.asarray(value, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label}: {name} is not an array of numbers: {first_line(error)}") from None


def _without_prefixes(tensors):
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
