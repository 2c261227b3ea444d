"""The weight file: one HDF5 array with all parameters, and an index of their names.

    values   float32, (n,)   every parameter and moving statistic, one after another
    index    JSON text       [{"name": "stem_conv/kernel", "shape": [3, 3, 3, 16], "offset": 0}, ...]
    sha256   attribute       of the index and the arrays; files written before 0.2 do not have it

A file of half the size has its kernels in a second array (``"array": "half"`` in the index):

    half     float16, (m,)   kernels, one after another

Names are ``<layer>/<variable>``, so a file fits any model with the same layer names, on any backend. A single array
keeps the file as small as its parameters (Keras' own files add a group for each variable, which matters in deep
networks) and allows reading it in one call.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import keras
import numpy as np

from keras_resv2.argument_checks import some
from keras_resv2.files import atomic_write, check_parent
from keras_resv2.models.structure import check_structure, structure_of
from keras_resv2.models.weights import match_weights, model_arrays, set_weights
from keras_resv2.storage.hdf5 import Refused, attribute, open_hdf5, text

FORMATS = FORMAT, FORMAT_WITH_HALF = "keras-resv2 weights 1", "keras-resv2 weights 2"
PARTS = "values", "half"
CHECKSUM, STRUCTURE = "sha256", "structure"
MOST_AXES = 8


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes all weights of a model to an HDF5 file, as float32.

    The file is written atomically. For a network of this package, as built, it also contains what
    ``ResNet(weights=path)`` and the other builders compare: activation order, kind of shortcut, strides, pixel
    statistics. Many variants have weights of the same names and shapes, and other outputs.

    Args:
        model: a `keras.Model` whose layers have unique names.
        path: path of the file, ending in .h5 (.weights.h5 is Keras' own format); an existing one is replaced.

    Raises:
        ValueError: if a layer is quantized (the message names the layer), or the path has another extension.
        FileNotFoundError: if the folder does not exist.

    Example:

    >>> import keras_resv2, tempfile
    >>> path = tempfile.mkdtemp() + "/weights.h5"
    >>> save_weights(keras_resv2.ResNet(8), path)
    >>> keras_resv2.ResNet(8, weights=path).count_params()
    75770
    """
    _check_extension(path)
    write_weights(model_arrays(model), path, structure=structure_of(model))


def _check_extension(path):
    name = os.fspath(path)
    if not name.endswith(".h5") or name.endswith(".weights.h5"):
        raise ValueError(
            f"{path} must end in .h5, and not in .weights.h5: keras_resv2.save_weights writes its own format. Use "
            "model.save for a .keras file, and model.save_weights for a .weights.h5 file."
        )


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Sets all weights of a model from a file of `save_weights`, or none of them.

    Args:
        model: a `keras.Model` of the same architecture as the file. A model without classifier ignores the weights of
            the classifier.
        path: path of the file.

    Raises:
        FileNotFoundError, ValueError: see `read_weights`.
        ValueError: if names, shapes, or the structure saved with the weights differ; the message lists them. The model
            is unchanged.

    Example:

    >>> import keras_resv2, tempfile
    >>> path = tempfile.mkdtemp() + "/weights.h5"
    >>> save_weights(keras_resv2.ResNet(8), path)
    >>> load_weights(keras_resv2.ResNet(8), path)
    """
    weights = read_weights(path)
    match_weights(model, weights, path)  # names and shapes say more, where they differ
    check_structure(model, read_structure(path), path)
    set_weights(model, weights, path)


def write_weights(
    arrays: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    half: bool = False,
    structure: Mapping[str, Any] | None = None,
) -> None:
    """Writes arrays as a weight file, atomically.

    Args:
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        path: path of the file; an existing one is replaced.
        half: whether to round kernels to float16. Everything else (biases, batch normalization) stays float32.
        structure: that of the network, from `keras_resv2.models.structure.structure_of`; None if unknown.

    Raises:
        ValueError: if a kernel is too large for float16.
        FileNotFoundError: if the folder does not exist.
    """
    check_parent(path)
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
    listing = json.dumps(index)
    datasets = {"values": np.concatenate(parts["values"]).astype("float32")}
    if half:
        datasets["half"] = np.concatenate(parts["half"]).astype("float16")
    # Created in memory: HDF5 does not recover from a disk that fills up while a file is open.
    content = io.BytesIO()
    with h5py.File(content, "w", libver="latest") as file:
        file.attrs["format"] = FORMAT_WITH_HALF if half else FORMAT
        file.attrs[CHECKSUM] = _checksum(listing, datasets)
        if structure:
            file.attrs[STRUCTURE] = json.dumps(structure)
        file["index"] = listing
        for name, array in datasets.items():
            file[name] = array
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def _checksum(index, datasets):
    """Returns the SHA-256, in hex, of the index and the arrays as stored."""
    digest = hashlib.sha256(index.encode())
    for name in PARTS:
        if name in datasets:
            digest.update(np.ascontiguousarray(datasets[name]).data)
    return digest.hexdigest()


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays in a weight file.

    Args:
        path: path of a file written by `save_weights` or `write_weights`.

    Returns:
        Dictionary from ``<layer>/<variable>`` to a float32 array.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a weight file, is damaged, or contains invalid values.
    """
    label = f"weight file {path}"
    with open_hdf5(path, label) as file:
        made = attribute(file, "format")
        if not isinstance(made, str) or made not in FORMATS:
            raise ValueError(
                f"{path} is not a keras-resv2 weight file: its format is {made!r}, not one of {', '.join(FORMATS)}. "
                "keras_resv2.save_weights writes such files; files of Keras' save_weights are loaded with "
                "model.load_weights."
            )
        index, datasets = _read_datasets(file)
        checksum = attribute(file, CHECKSUM)
    if checksum is not None and checksum != _checksum(index, datasets):
        raise ValueError(f"{label} is damaged: its content does not match its SHA-256.")
    parts = {name: array.astype("float32") for name, array in datasets.items()}
    try:
        arrays = _split(json.loads(index), parts)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label} is damaged: its index is wrong: {error}") from None
    check_values(arrays, label)
    return arrays


def read_structure(path: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the structure of the network that a weight file was saved from; None if it does not contain any.

    Args:
        path: path of a file written by `save_weights` or `write_weights`.
    """
    with open_hdf5(path, f"weight file {path}") as file:
        content = attribute(file, STRUCTURE)
    try:
        structure = json.loads(content) if isinstance(content, str) else None
    except (ValueError, RecursionError):
        structure = None
    return structure if isinstance(structure, dict) else None


def _read_datasets(file):
    """Reads the text of the index, and the arrays by name, of a file that contains nothing else."""
    if not {"index", PARTS[0]} <= set(file) <= {"index", *PARTS}:
        raise Refused(f"does not match its format: it contains {some(sorted(file), ', ') or 'nothing'}.")
    index, arrays = file["index"], {name: file[name] for name in PARTS if name in file}
    if not isinstance(index, h5py.Dataset):
        raise Refused("does not match its format: its index is not text.")
    for name, dtype in zip(PARTS, ("float32", "float16"), strict=True):
        if name in arrays and (not isinstance(arrays[name], h5py.Dataset) or arrays[name].ndim != 1):
            raise Refused(f"does not match its format: {name} is not a list of numbers.")
        if name in arrays and arrays[name].dtype != dtype:
            raise Refused(f"does not match its format: {name} has the dtype {arrays[name].dtype}, not {dtype}.")
    return text(index), {name: array[()] for name, array in arrays.items()}


def _split(index, parts):
    """Splits the stored arrays into those listed in an index.

    Raises:
        ValueError: if the index is not a list of entries, or an entry is outside its array.
    """
    if not isinstance(index, list):
        raise ValueError("it is not a list.")
    arrays, sizes = {}, dict.fromkeys(parts, 0)
    for entry in index:
        name, shape, offset, part = _entry(entry)
        size = math.prod(shape)
        if part not in parts or offset + size > len(parts[part]):
            raise ValueError(f"{name} is outside the file's values.")
        sizes[part] += size
        if name in arrays or sizes[part] > len(parts[part]):
            raise ValueError(f"{name} overlaps another weight.")
        arrays[name] = parts[part][offset : offset + size].reshape(shape)
    return arrays


def _entry(entry) -> Any:
    """Returns the name, shape, offset and array of an entry of the index."""

    def is_count(value):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if isinstance(entry, dict):
        name, shape, offset = (entry.get(key) for key in ("name", "shape", "offset"))
        part = entry.get("array", PARTS[0])
        numbers = isinstance(shape, list) and len(shape) <= MOST_AXES and all(map(is_count, [*shape, offset]))
        if numbers and isinstance(name, str) and name.isprintable() and part in PARTS:
            return name, shape, offset, part
    raise ValueError(f"{str(entry)[:80]} is not an entry with a name, a shape and an offset.")


def check_values(arrays: Mapping[str, np.ndarray], label: str, spell: Callable[[str], str] = str) -> None:
    """Raises ValueError for weights with invalid values.

    Args:
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        label: name of their source in messages.
        spell: function from a name to the name in the source.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{label}: {spell(name)} has values that are not finite: the training diverged.")
        if name.endswith("/moving_variance") and (array < 0).any():
            raise ValueError(f"{label}: {spell(name)} has negative variances: the file is damaged.")


def count_trainable(arrays: Mapping[str, np.ndarray]) -> int:
    """Counts the trainable parameters among arrays by name: all but moving statistics."""
    return sum(math.prod(array.shape) for name, array in arrays.items() if "/moving_" not in name)
