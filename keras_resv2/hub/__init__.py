"""Weights on the Hugging Face Hub: a repository contains the files of a folder of `weights/`, and a README.

- `push` uploads a version of weights, your own or one of this package.
- `pull` downloads and verifies one; `keras_resv2.from_pretrained("hf://user/name")` calls it.
"""

import importlib

_MODULES = {"PREFIX": "client", "pull": "download", "push": "upload"}

__all__ = list(_MODULES)


def __getattr__(name):
    # Imported on first use: downloading needs neither Keras nor the dependencies of uploading.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
