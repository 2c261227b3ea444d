"""Weights from other libraries: torchvision, timm, CIFAR checkpoints, keras.applications; and back to PyTorch.

>>> from keras_resv2 import convert
>>> model = convert.from_pytorch("resnet18.pth")  # doctest: +SKIP
>>> convert.save_pytorch(model, "resnet18.safetensors", layout="torchvision")  # doctest: +SKIP

Each layout is a module of `keras_resv2.convert.layouts` that maps the names of a library to those of
`keras_resv2.models.network`.
"""

import importlib

# Imported when first used: the command line asks this package for its arguments, which need no Keras.
_MODULES = {
    "Detected": "keras_resv2.convert.detection",
    "detect": "keras_resv2.convert.detection",
    "from_keras_applications": "keras_resv2.convert.detection",
    "from_pytorch": "keras_resv2.convert.detection",
    "make_card": "keras_resv2.convert.weight_folder",
    "write_folder": "keras_resv2.convert.weight_folder",
    "save_pytorch": "keras_resv2.convert.pytorch_writer",
    "to_pytorch": "keras_resv2.convert.pytorch_writer",
}

__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module 'keras_resv2.convert' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return globals()[name]


def __dir__():
    return sorted({*globals(), *__all__})
