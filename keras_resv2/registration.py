"""Keras gets to know the classes of this package, whichever of the two is imported first.

`keras.models.load_model` looks classes up by name among those that were registered. A class is registered when its
module is imported, which imports Keras and its backend; `import keras_resv2` imports neither. So a stand-in is
registered for each class, as soon as there is a Keras to register it with, and imports the class when it is needed.
"""

import contextlib
import importlib
import sys

from keras_resv2.startup import around_import

PACKAGE = "keras_resv2"
CLASSES = {
    "BatchNormalization": "keras_resv2.models.batch_norm",
    "RolledUnits": "keras_resv2.models.scan",
    "DiscriminativeAdam": "keras_resv2.transfer.rates",
}
REQUIRES = {"requires": f"import {PACKAGE}"}


def register():
    """Registers the classes with Keras: now where it is loaded, else when it is."""
    if "keras" in sys.modules:
        _register_classes()
    else:
        around_import("keras", _registering)


def saying_what_to_import(build_config):
    """What `get_build_config` of a layer gives, with a line for those who open its file without this package.

    Keras puts all that a file says of a layer into its error message where the class is not registered.
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
    """A class with the one method that Keras calls to open what was saved. The class itself replaces it on import."""

    def from_config(cls, config, **options):
        return getattr(importlib.import_module(module), name).from_config(config, **options)

    return type(name, (), {"from_config": classmethod(from_config), "__module__": module})
