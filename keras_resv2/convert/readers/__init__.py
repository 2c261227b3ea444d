"""Reads tensors by name from files and objects of other libraries. Code in files is not executed."""

import dataclasses
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping

import keras
import numpy as np

from keras_resv2.argument_checks import first_line
from keras_resv2.convert.readers.keras_file import MODEL_WEIGHTS, read_config, read_keras
from keras_resv2.convert.readers.pytorch_file import Ignored, plain_tensors, read_pytorch
from keras_resv2.convert.readers.tensorflow_file import find_checkpoint, read_checkpoint
from keras_resv2.convert.readers.url import fetch_url, is_url
from keras_resv2.files import check_regular, open_regular, read_limit

PYTORCH_FILES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".th", ".pkl", ".pyth")
KERAS_FILES = (".h5", ".hdf5", ".keras")
SAFETENSORS = ".safetensors"
PICKLE, ZIP, HDF5 = b"\x80", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"

# Arguments of `ResNet` that a state dict does not say, and conventions of other code that ours are made from;
# and where a file of this package says them: in the metadata of .safetensors, and of a state dict.
STRUCTURE = (
    "projection",
    "stride_on",
    "stem",
    "preprocessing",
    "stride_in",
    "conv_bias",
    "activated_shortcuts",
    "padding",
)
CONVENTIONS = ("epsilon", "zero_channels")
STRUCTURE_KEY = "keras_resv2"

COUNTERS = ("num_batches_tracked", "n_averaged")  # of training; networks do not depend on them
# What torch.compile, FSDP and activation checkpointing put into names, anywhere.
INNER_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DEEPEST = 8  # dictionaries around a state dict


@dataclasses.dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        label: name of the source in messages.
        tensors: dictionary from names to float32 arrays; names begin with those of the dictionaries that they lie in.
        dictionaries: what the names of the tensors in each dictionary begin with; "" for the outermost.
        said: arguments of `detect` that a dictionary specifies, by the prefix of its names.
        whole: the PyTorch module or `keras.Model`; None for files and dictionaries.
        config: configuration of a saved Keras model; None without one.
    """

    label: str
    tensors: dict
    dictionaries: tuple[str, ...]
    said: dict
    whole: object = None
    config: dict | None = None


def read_source(source):
    """Reads the tensors of a file or an object, and what else it specifies.

    Args:
        source: path of a PyTorch file, a .safetensors file, a Keras weight file (.h5, .weights.h5) or model
            (.keras), whatever its ending; of a SavedModel's folder or a TensorFlow checkpoint; a dictionary of
            arrays or tensors, as a `state_dict()`, or one that holds it; a PyTorch module; a `keras.Model`; or the
            address of a file whose name has the first hex digits of its SHA-256, as torchvision's have.

    Returns:
        `Source`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged, contains objects other than tensors, or has no tensors.
        ImportError: if reading it requires a package that is not installed.
    """
    limit, whole, config = math.inf, None, None
    source = fetch_url(source) if is_url(source) else source
    if isinstance(source, (str, os.PathLike)):
        path, label = pathlib.Path(source), str(source)
        checkpoint = find_checkpoint(path)
        if checkpoint is not None:
            content = read_checkpoint(checkpoint, label)
        else:
            content, config = _read_file(path)
            limit = read_limit(path.stat().st_size)
    elif isinstance(source, keras.Model):
        content, label, whole = dict(_keras_variables(source)), f"model {source.name!r}", source
    elif hasattr(source, "state_dict"):
        content, label, whole = source.state_dict(), "the module", source
    else:
        content, label = source, "the dictionary"
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} holds a {_kind(content)}: weights are a path, a dictionary or a model.")
    tensors, said, seen = {}, {}, {}
    _collect(content, "", (), tensors, said, seen)
    needed = sum(_check_tensor(name, value, label) for name, value in tensors.items())
    if needed > limit:
        raise ValueError(f"{label} declares {needed:,} bytes of tensors: more than weights in a file of its size.")
    if not tensors:
        raise ValueError(
            f"{label} holds no tensors; its entries are {', '.join(map(str, list(content)[:5])) or 'none'}."
        )
    tensors = plain_tensors({name: _to_numpy(name, value, label) for name, value in tensors.items()})
    said = {prefix: _arguments(text, label) for prefix, text in said.items()}
    return Source(label, tensors, tuple(seen.values()), said, whole, config)


def _read_file(path):
    """``(content, configuration of a Keras model)``, by the content of the file, whatever its extension."""
    check_regular(path)
    with open_regular(path) as file:
        start = file.read(16)
    is_keras = path.suffix in KERAS_FILES or _holds(path, MODEL_WEIGHTS)
    if start.startswith(HDF5) or (start.startswith(ZIP) and is_keras):
        return read_keras(path), read_config(path)
    # Before PICKLE: the first 8 bytes are the length of the header, whose lowest may be 0x80.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return _read_safetensors(path), None
    if start.startswith((ZIP, PICKLE)):
        return read_pytorch(path), None
    # Unknown content: the extension selects the message.
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path), None
    if path.suffix in KERAS_FILES:
        return read_keras(path), None
    if path.suffix.lower() in PYTORCH_FILES:
        return read_pytorch(path), None
    raise ValueError(f"{path} is none of the files that are read: PyTorch's, .safetensors, or Keras' .h5 or .keras.")


def _holds(path, name):
    try:
        with zipfile.ZipFile(path) as archive:
            return name in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _read_safetensors(path):
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError(f"reading {path} requires safetensors: pip install safetensors.") from None
    try:
        content = _WithMetadata(load_file(path))
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(STRUCTURE_KEY)
    except (SafetensorError, ValueError, TypeError, KeyError, OSError, MemoryError) as error:
        raise ValueError(f"{path} is damaged, or has a type of numbers that NumPy does not have: {error}") from None
    if text is not None:
        content._metadata = {STRUCTURE_KEY: text}
    return content


class _WithMetadata(dict):
    """A dictionary of tensors with a `_metadata`, like PyTorch's state dicts."""

    _metadata: dict


def _keras_variables(model, prefix=""):
    """Yields pairs of a name and a variable; names of nested layers start with the name of their model."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)  # of a wrapper, as TimeDistributed
        if isinstance(inner, keras.Model):
            yield from _keras_variables(inner, f"{prefix}{layer.name}/")
        else:
            yield from ((f"{prefix}{layer.name}/{weight.name}", weight) for weight in layer.weights)


def _collect(content, prefix, around, tensors, said, seen):
    """Adds the tensors of a dictionary and of those inside it, each once."""
    if id(content) in around:
        raise ValueError("a dictionary of tensors holds itself.")
    if len(around) > DEEPEST:
        raise ValueError(f"dictionaries of tensors lie more than {DEEPEST} dictionaries deep.")
    if id(content) in seen:
        return
    seen[id(content)] = INNER_WRAPPERS.sub("", prefix)
    metadata = getattr(content, "_metadata", None)
    if isinstance(metadata, Mapping) and STRUCTURE_KEY in metadata:
        said[seen[id(content)]] = metadata[STRUCTURE_KEY]
    for name, value in content.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Mapping):
            _collect(value, f"{prefix}{name}.", (*around, id(content)), tensors, said, seen)
        elif hasattr(value, "shape") and not name.endswith(COUNTERS):
            tensors[INNER_WRAPPERS.sub("", f"{prefix}{name}")] = value


def _arguments(text, label):
    """Parses the arguments in the metadata of a file of this package."""
    try:
        said = json.loads(text)
        said = {name: said[name] for name in (*STRUCTURE, *CONVENTIONS) if name in said}
        if None in said.values():
            raise ValueError("null")
        return said
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            f"{label} says in its metadata that its network is {str(text)[:80]!r}, which cannot be read."
        ) from None


def _kind(content):
    return "Python object that is no tensor" if isinstance(content, Ignored) else type(content).__name__


def _check_tensor(name, value, label):
    """Returns the size of a tensor as float32; raises ValueError unless it is a plain, complete tensor."""
    kind = _unusual_kind(value)
    if kind:
        raise ValueError(f"{label}: {name} is a {kind} tensor; weights are plain tensors of numbers.")
    size = math.prod(value.shape)
    if hasattr(value, "untyped_storage") and size * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{label}: {name} has the shape {tuple(value.shape)}, and fewer values are stored.")
    return size * np.dtype("float32").itemsize


def _unusual_kind(value):
    """Returns the kind of an unusual array or PyTorch tensor; None for plain ones."""
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
