"""Tensors by name, from files and objects of other libraries. Nothing that a file says is run."""

import io
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping

import keras
import numpy as np

from keras_resv2.choices import first_line

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
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        content, label = _read_file(path), str(path)
    elif isinstance(source, keras.Model):
        content = {f"{layer.name}/{weight.name}": weight for layer in source.layers for weight in layer.weights}
        label = f"model {source.name!r}"
    else:
        content, label = source.state_dict() if hasattr(source, "state_dict") else source, "the dictionary"
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} holds a {type(content).__name__}: weights are a path, a dictionary or a model.")
    found = _unwrap(content)
    tensors = {name: _to_numpy(value) for name, value in found.items() if _is_tensor(name, value)}
    if not tensors:
        raise ValueError(
            f"{label} holds no tensors; its entries are {', '.join(map(str, list(content)[:5])) or 'none'}."
        )
    return _without_prefixes(tensors), label


def _read_file(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}.")
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
    except (SafetensorError, ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path} is damaged, or has a type of numbers that NumPy has not: {error}") from None


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
    except (ValueError, TypeError):
        raise ValueError(f"{source} says in its metadata that its network is {text}, which cannot be read.") from None


def _read_keras(path):
    """Arrays by ``<layer>/<variable>``, from Keras 2's files and those of Keras 3."""
    import h5py

    try:
        with h5py.File(_weights_in(path), "r") as file:
            if "format" in file.attrs:
                raise ValueError(f"{path} is a weight file of this package: give it to weights= of a builder.")
            group = file.get("model_weights", file)  # a whole model of Keras 2
            if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                return _legacy_layers(group)
            if "layers" in file:
                return _keras3_layers(file["layers"], path)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or not HDF5: {error}") from None
    raise ValueError(f"{path} is no weight file of Keras: it has neither layer_names nor layers.")


def _weights_in(path):
    """What HDF5 is in a file: itself, or of a saved model (.keras, a zip) its part with the weights."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as file:
        return io.BytesIO(file.read("model.weights.h5"))


def _legacy_layers(group):
    """Names of variables are paths that end in the variable's, with ":0" from TensorFlow."""
    return {
        f"{layer}/{str(name).split('/')[-1].partition(':')[0]}": group[layer][name][()]
        for layer in _names(group, "layer_names")
        for name in _names(group[layer], "weight_names")
    }


def _names(group, attribute):
    """A list of names, which long lists have in parts."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    values = [value for part in parts for value in group.attrs[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keras3_layers(layers, path):
    """Layers are numbered by class, and say their own name; variables are numbered."""
    arrays = {}
    for group in layers.values():
        variables = group.get("vars", {})
        names = KERAS_VARIABLES.get(len(variables), ())
        if names and "name" not in variables.attrs:
            raise ValueError(
                f"{path} does not name its layers, as files of early Keras 3 do not: load it into the "
                "model of keras.applications, and give that."
            )
        layer = variables.attrs["name"] if names else None
        arrays.update({f"{layer}/{name}": variables[str(i)][()] for i, name in enumerate(names)})
    return arrays


def _unwrap(content):
    while True:
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content
        content = inner


def _is_tensor(name, value):
    return isinstance(name, str) and hasattr(value, "shape") and not name.endswith(COUNTERS)


def _to_numpy(value):
    if hasattr(value, "detach"):  # PyTorch's, without importing it; NumPy has no bfloat16
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, "float32")


def _without_prefixes(tensors):
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
