"""Weights on the Hugging Face Hub: a repository holds what a folder of `weights/` does, and a README.

- `push` uploads a version of weights, yours or one of this package.
- `pull` fetches one, verified; `keras_resv2.from_pretrained("hf://user/name")` calls it.
"""

import importlib

_MODULES = {"PREFIX": "client", "pull": "download", "push": "upload"}

__all__ = list(_MODULES)


def __getattr__(name):
    # Imported when first used: fetching needs neither Keras nor what uploading needs.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
