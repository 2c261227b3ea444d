"""Registers the classes of this package with Keras, whichever of the two is imported first.

`keras.models.load_model` looks up registered classes by name. A class is registered when its module is imported, which
imports Keras and its backend; `import keras_resv2` imports neither. So a proxy is registered for each class as soon as
Keras is imported, and imports the class when it is needed.
"""

import contextlib
import importlib
import sys

from keras_resv2.startup import around_import

PACKAGE = "keras_resv2"
CLASSES = {
    "BatchNormalization": "keras_resv2.models.batch_norm",
    "RolledUnits": "keras_resv2.models.scan",
    "SGD": "keras_resv2.optimizers",
    "DiscriminativeAdam": "keras_resv2.transfer.discriminative_learning_rates",
}
REQUIRES = {"requires": f"import {PACKAGE}"}


def register():
    """Registers the classes with Keras: now if it is already imported, otherwise when it is."""
    if "keras" in sys.modules:
        _register_classes()
    else:
        around_import("keras", _registering)


def saying_what_to_import(build_config):
    """Adds a hint to the `get_build_config` of a layer, for users who open its file without this package.

    If a class is not registered, Keras includes the saved configuration of the layer in its error message.
    """
    return {**REQUIRES, **build_config} if build_config else build_config


@contextlib.contextmanager
def _registering():
    yield
    _register_classes()


def _register_classes():
    registry = sys.modules["keras"].saving.get_custom_objects()
    for name, module in CLASSES.items():
        registry.setdefault(f"{PACKAGE}>{name}", _stand_in(name, module))


def _stand_in(name, module):
    """Creates a class with the one method that Keras calls to load a saved object. The import replaces it."""

    def from_config(cls, config, **options):
        return getattr(importlib.import_module(module), name).from_config(config, **options)

    return type(name, (), {"from_config": classmethod(from_config), "__module__": module})
