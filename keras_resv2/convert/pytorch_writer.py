"""Writes weights as PyTorch state dicts and files."""

import collections
import io
import json
import os
import pathlib

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.convert.equivalence import EPSILON, ZERO_CHANNELS
from keras_resv2.convert.infer_config import infer_config
from keras_resv2.convert.layouts import cifar, pytorchcv, timm, torchvision
from keras_resv2.convert.readers import STRUCTURE, STRUCTURE_KEY
from keras_resv2.files import atomic_write
from keras_resv2.models.structure import pixels_of
from keras_resv2.models.weights import model_arrays

# Among the layouts with the network's order of BN and ReLU, the first that supports its arguments is used.
LAYOUTS = {
    "torchvision": (torchvision.LAYOUT,),
    "timm": (torchvision.LAYOUT, timm.LAYOUT),
    "cifar": (cifar.ORIGINAL, cifar.PREACTIVATED),
    "pytorchcv": pytorchcv.LAYOUTS,
}


def to_pytorch(model: keras.Model, layout: str = "torchvision") -> dict[str, np.ndarray]:
    """Converts the weights of a network to a PyTorch state dict.

    Args:
        model: a network of this package, rolled or not.
        layout: "torchvision", "timm" (its ResNet-v1 are torchvision's), "pytorchcv" or "cifar" (`linear`,
            `shortcut`).

    Returns:
        Dictionary from names to float32 arrays: ``{k: torch.from_numpy(v) for k, v in ...items()}`` is
        what `load_state_dict` takes. PyTorch's network starts after preprocessing and returns logits. Details that
        tensors do not specify are in the dictionary's `_metadata`, where state dicts have versions: `from_pytorch`
        restores the same network.

    Raises:
        ValueError: if the library does not have such a network, for example one with strides on other convolutions.

    Example:

    >>> import keras_resv2
    >>> to_pytorch(keras_resv2.ResNet20(), layout="cifar")["linear.weight"].shape
    (10, 64)
    """
    check_choice("layout", layout, LAYOUTS)
    structure = infer_config(model)
    activation = structure["activation"]
    rows = [row for row in LAYOUTS[layout] if row.activation == activation]
    if not rows:
        fits = [name for name, rows in LAYOUTS.items() if any(row.activation == activation for row in rows)]
        raise ValueError(
            f"layout {layout!r} has no networks with activation {activation!r}, as model {model.name!r} is; "
            f"layouts that have: {', '.join(fits) or 'none'}."
        )
    refusals = [_refusals(row, structure) for row in rows]
    if all(refusals):
        name, values = min((first for first, *_ in refusals), key=lambda refusal: refusal[0] == "stem")
        raise ValueError(
            f"networks of layout {layout!r} have {name}={' or '.join(map(repr, values))}; model {model.name!r} "
            f"has {name}={structure[name]!r}, so its weights would give other outputs there."
        )
    chosen = rows[refusals.index([])]
    metadata = collections.OrderedDict({"": {"version": 1}, STRUCTURE_KEY: json.dumps(_said(model))})
    return _state_dict(chosen.tensors(model_arrays(model)), metadata)


def _state_dict(tensors, metadata):
    """Returns a dictionary with the attribute `_metadata`, as PyTorch's state dicts have it."""
    state = collections.OrderedDict(tensors)
    vars(state)["_metadata"] = metadata
    return state


def _refusals(layout, structure):
    """Returns the arguments that a layout does not support, each with the supported values."""
    allowed = {"shortcut": ("identity",), "conv_bias": (False,), "padding": ("torch",), "output_stride": (None,)}
    allowed |= layout.allowed
    return [(k, values) for k, values in allowed.items() if structure[k] not in (None, *values)]


def save_pytorch(model: keras.Model, path: str | os.PathLike, layout: str = "torchvision") -> None:
    """Writes the weights of a network as a PyTorch file, atomically.

    Args:
        model, layout: as `to_pytorch`.
        path: ending in .safetensors, which needs no PyTorch, or .pt or .pth. An existing file is replaced. The
            metadata contain what tensors do not specify: `from_pytorch` restores the same network.

    Raises:
        ValueError: as `to_pytorch`, or if the file extension is not one of these.
        ImportError: if writing the file requires a package that is not installed.

    Example:

    >>> save_pytorch(keras_resv2.from_pretrained("resnet20-cifar10"), "resnet20.pt", "cifar")  # doctest: +SKIP
    """
    ending = check_choice("the extension of path", pathlib.Path(path).suffix, (".safetensors", ".pt", ".pth"))
    write = _safetensors() if ending == ".safetensors" else _torch()
    tensors = to_pytorch(model, layout)
    with atomic_write(path) as partial:
        partial.write_bytes(write(tensors))


def _safetensors():
    try:
        from safetensors.numpy import save
    except ImportError:
        raise ImportError("writing .safetensors requires safetensors: pip install safetensors.") from None
    return lambda tensors: save(dict(tensors), {STRUCTURE_KEY: tensors._metadata[STRUCTURE_KEY]})


def _said(model):
    """Returns arguments of `detect` that a state dict does not specify."""
    said = {**infer_config(model), "preprocessing": pixels_of(model)}
    said = {name: said[name] for name in STRUCTURE if said[name] is not None}
    return {**said, "epsilon": EPSILON, "zero_channels": ZERO_CHANNELS[0]}


def _torch():
    try:
        import torch
    except ImportError:
        raise ImportError("writing .pt requires PyTorch: pip install torch. Writing .safetensors does not.") from None

    def write(tensors):
        content = io.BytesIO()  # PyTorch does not say when the disk is full
        state = {key: torch.from_numpy(array) for key, array in tensors.items()}
        torch.save(_state_dict(state, tensors._metadata), content)
        return content.getbuffer()

    return write
