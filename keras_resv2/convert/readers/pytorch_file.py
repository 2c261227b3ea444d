"""Reads PyTorch files with the restricted unpickler: code in files is not executed."""

import contextlib
import importlib.util
import pathlib
import warnings

import numpy as np

from keras_resv2.argument_checks import first_line
from keras_resv2.files import check_zip, open_regular

NEEDS_PYTORCH = "reading {} requires PyTorch: pip install torch."
OTHER_OBJECTS = ("unsupported global", "unsupported class", "not an allowed global", "is blocked")  # PyTorch's words

# Objects that training code stores next to the tensors: command-line arguments, NumPy scalars, paths.
# They are replaced by an inert object.
NUMPY_TYPES = ("Bool", "Float16", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32")
HARMLESS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    *(f"numpy.dtypes.{name}DType" for name in (*NUMPY_TYPES, "UInt64")),
    *(f"numpy.dtype[{name.lower()}]" for name in (*NUMPY_TYPES, "UInt64")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "PurePosixPath")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("WindowsPath", "PureWindowsPath")),
    "datetime.datetime",
    "datetime.timedelta",
)

# Endings of the tensors that a weight is made from, by pairs: what they are, and how the weight is made.
PRUNED = ("_orig", "_mask")
NORMALIZED = (("_g", "_v"), (".original0", ".original1"))


class Ignored:
    """Placeholder of an object next to the tensors; it accepts any state and keeps nothing."""

    def __new__(cls, *arguments, **options):
        return super().__new__(cls)

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state):
        pass


def check_pytorch(path):
    """Raises ImportError if only PyTorch can read a file of this name, and is not installed: before a download."""
    if pathlib.Path(path).suffix in (".pt", ".pth") and importlib.util.find_spec("torch") is None:
        raise ImportError(NEEDS_PYTORCH.format(path))


def read_pytorch(path):
    """Reads the object in a PyTorch file.

    Args:
        path: path of a file written by `torch.save`, as a zip archive or in the format before PyTorch 1.6.

    Returns:
        Dictionaries, lists, numbers, texts and tensors; `Ignored` for the objects in `HARMLESS`.

    Raises:
        ImportError: if PyTorch is not installed.
        ValueError: if it is damaged, or contains other Python objects.
    """
    try:
        import torch
    except ImportError:
        raise ImportError(NEEDS_PYTORCH.format(path)) from None
    with open_regular(path) as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        check_zip(path)
    try:
        # As an open file: of a path, PyTorch goes by the ending.
        with _harmless(torch), warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
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


def _harmless(torch):
    """Context in which objects of `HARMLESS` are read as `Ignored`."""
    allow = getattr(torch.serialization, "safe_globals", None)  # since PyTorch 2.5; by name since 2.7
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return allow([(Ignored, name) for name in HARMLESS]) if allow and version >= (2, 7) else contextlib.nullcontext()


def plain_tensors(tensors):
    """Combines weights that PyTorch stores as several tensors.

    Pruning (`torch.nn.utils.prune`) keeps ``weight_orig`` and ``weight_mask``, whose product is the weight; weight
    normalization keeps length and direction, as ``weight_g`` and ``weight_v`` or, since PyTorch 2,
    ``parametrizations.weight.original0`` and ``original1``.

    Args:
        tensors: dictionary from names to arrays.

    Example:

    >>> plain_tensors({"conv1.weight_orig": np.array([1.0, 2.0]), "conv1.weight_mask": np.array([0.0, 1.0])})
    {'conv1.weight': array([0., 2.])}
    """
    plain = dict(tensors)
    for first, second, combine in [(*PRUNED, np.multiply), *((*pair, _weight_norm) for pair in NORMALIZED)]:
        for name in [name for name in plain if name.endswith(first)]:
            stem = name.removesuffix(first)
            other = plain.get(stem + second)
            if other is not None and stem.endswith(("weight", "bias")) and _fit(plain[name], other, combine):
                plain[stem.replace("parametrizations.", "")] = combine(plain.pop(name), plain.pop(stem + second))
    return plain


def _fit(first, second, combine):
    if combine is np.multiply:
        return first.shape == second.shape
    return first.size == second.shape[0] and first.ndim == second.ndim if second.ndim else False


def _weight_norm(length, direction):
    """Length times direction, by output channel; PyTorch's default, ``dim=0``."""
    axes = tuple(range(1, direction.ndim))
    norm = np.sqrt(np.sum(np.square(direction, dtype="float64"), axis=axes, keepdims=True))
    return (direction * (length / np.where(norm > 0, norm, 1))).astype("float32")
