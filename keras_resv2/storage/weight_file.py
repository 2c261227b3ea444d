"""The weight file: one HDF5 array of all parameters, and an index of their names.

    values   float32, (n,)   every parameter and moving statistic, one after another
    index    JSON text       [{"name": "stem_conv/kernel", "shape": [3, 3, 3, 16], "offset": 0}, ...]
    sha256   attribute       of the index and the arrays; files written before 0.2 do not have it

A file of half the size has its kernels in a second array (``"array": "half"`` in the index):

    half     float16, (m,)   kernels, one after another

Names are ``<layer>/<variable>``, so a file fits any model with the same layer names, whatever the
backend. One array keeps the file as large as its parameters (Keras' own files add a group to
each variable, which tells in deep networks) and makes reading it one call.
"""

import hashlib
import io
import json
import math
import os

import h5py
import keras
import numpy as np

from keras_resv2.argument_checks import some
from keras_resv2.files import atomic_write
from keras_resv2.models.weights import model_arrays, set_weights
from keras_resv2.storage.hdf5 import Refused, attribute, open_hdf5, text

FORMATS = FORMAT, FORMAT_WITH_HALF = "keras-resv2 weights 1", "keras-resv2 weights 2"
PARTS = "values", "half"
CHECKSUM = "sha256"
MOST_AXES = 8


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes all weights of a model, as float32, to an HDF5 file.

    The file appears whole or not at all.

    Args:
        model: a `keras.Model` whose layers have unique names.
        path: of the file; an existing one is replaced.

    Raises:
        ValueError: a layer is quantized; the message names it.

    Example:

    >>> import keras_resv2, tempfile
    >>> path = tempfile.mkdtemp() + "/weights.h5"
    >>> save_weights(keras_resv2.ResNet(8), path)
    >>> keras_resv2.ResNet(8, weights=path).count_params()
    78666
    """
    write_weights(model_arrays(model), path)


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Sets the weights of a model from a weight file: all of them, or none.

    Args:
        model: a `keras.Model` of the architecture that the file was made from. A model without
            classifier takes the rest.
        path: of the file.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`.
        ValueError: names or shapes differ; the message says which. The model is unchanged.
    """
    set_weights(model, read_weights(path), path)


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
    listing = json.dumps(index)
    datasets = {"values": np.concatenate(parts["values"]).astype("float32")}
    if half:
        datasets["half"] = np.concatenate(parts["half"]).astype("float16")
    # Made in memory: HDF5 does not recover from a disk that fills up while a file is open.
    content = io.BytesIO()
    with h5py.File(content, "w", libver="latest") as file:
        file.attrs["format"] = FORMAT_WITH_HALF if half else FORMAT
        file.attrs[CHECKSUM] = _checksum(listing, datasets)
        file["index"] = listing
        for name, array in datasets.items():
            file[name] = array
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def _checksum(index, datasets):
    """SHA-256, in hex, of the index and the arrays, as they lie in a file."""
    digest = hashlib.sha256(index.encode())
    for name in PARTS:
        if name in datasets:
            digest.update(np.ascontiguousarray(datasets[name]).data)
    return digest.hexdigest()


def read_weights(path):
    """The arrays in a weight file, by name.

    Args:
        path: of a file that `save_weights` or `write_weights` wrote.

    Returns:
        Dictionary from ``<layer>/<variable>`` to a float32 array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a weight file, or a damaged one; or it has values that no network works with.
    """
    label = f"weight file {path}"
    with open_hdf5(path, label) as file:
        made = attribute(file, "format")
        if not isinstance(made, str) or made not in FORMATS:
            raise ValueError(
                f"{path} is not a keras-resv2 weight file: its format {made!r} is none of {', '.join(FORMATS)}. "
                "keras_resv2.save_weights writes such files; what Keras' save_weights wrote goes into "
                "model.load_weights."
            )
        index, datasets = _read_datasets(file)
        checksum = attribute(file, CHECKSUM)
    if checksum is not None and checksum != _checksum(index, datasets):
        raise ValueError(f"{label} is damaged: its content does not have the SHA-256 that it had when it was written.")
    parts = {name: array.astype("float32") for name, array in datasets.items()}
    try:
        arrays = _split(json.loads(index), parts)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label} is damaged: its index is wrong: {error}") from None
    check_values(arrays, label)
    return arrays


def _read_datasets(file):
    """The text of the index, and the arrays by name, of a file that holds these and nothing else."""
    if not {"index", PARTS[0]} <= set(file) <= {"index", *PARTS}:
        raise Refused(f"is not as its format says: it holds {some(sorted(file), ', ') or 'nothing'}.")
    index, arrays = file["index"], {name: file[name] for name in PARTS if name in file}
    if not isinstance(index, h5py.Dataset):
        raise Refused("is not as its format says: its index is not text.")
    for name, dtype in zip(PARTS, ("float32", "float16"), strict=True):
        if name in arrays and (not isinstance(arrays[name], h5py.Dataset) or arrays[name].ndim != 1):
            raise Refused(f"is not as its format says: {name} is not a list of numbers.")
        if name in arrays and arrays[name].dtype != dtype:
            raise Refused(f"is not as its format says: {name} has the type {arrays[name].dtype}, not {dtype}.")
    return text(index), {name: array[()] for name, array in arrays.items()}


def _split(index, parts):
    """The arrays that an index names, by name.

    Raises:
        ValueError: it is not a list of entries, or an entry does not lie within its array.
    """
    if not isinstance(index, list):
        raise ValueError("it is not a list.")
    arrays, sizes = {}, dict.fromkeys(parts, 0)
    for entry in index:
        name, shape, offset, part = _entry(entry)
        size = math.prod(shape)
        if part not in parts or offset + size > len(parts[part]):
            raise ValueError(f"{name} lies outside the file's values.")
        sizes[part] += size
        if name in arrays or sizes[part] > len(parts[part]):
            raise ValueError(f"{name} has values that another weight has too.")
        arrays[name] = parts[part][offset : offset + size].reshape(shape)
    return arrays


def _entry(entry):
    """Name, shape, offset and array of an entry of the index."""

    def is_count(value):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if isinstance(entry, dict):
        name, shape, offset = (entry.get(key) for key in ("name", "shape", "offset"))
        part = entry.get("array", PARTS[0])
        numbers = isinstance(shape, list) and len(shape) <= MOST_AXES and all(map(is_count, [*shape, offset]))
        if numbers and isinstance(name, str) and name.isprintable() and part in PARTS:
            return name, shape, offset, part
    raise ValueError(f"{str(entry)[:80]} is not an entry with a name, a shape and an offset.")


def check_values(arrays, label, spell=str):
    """Raises ValueError for weights that no network works with.

    Args:
        arrays: dictionary from ``<layer>/<variable>`` to an array.
        label: what to call their source in the message.
        spell: from a name to the source's own name.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{label}: {spell(name)} has values that are not finite: the training diverged.")
        if name.endswith("/moving_variance") and (array < 0).any():
            raise ValueError(f"{label}: {spell(name)} has negative variances: the file is damaged.")


def count_trainable(arrays):
    """Trainable parameters among arrays by name: all but moving statistics."""
    return sum(math.prod(array.shape) for name, array in arrays.items() if "/moving_" not in name)
