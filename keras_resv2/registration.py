"""Keras gets to know the classes of this package, whichever of the two is imported first.

`keras.models.load_model` looks classes up by name among those that were registered. A class is registered when its
module is imported, which imports Keras and its backend; `import keras_resv2` imports neither. So a stand-in is
registered for each class, as soon as there is a Keras to register it with, and imports the class when it is needed.
"""

import importlib
import importlib.abc
import importlib.util
import sys

PACKAGE = "keras_resv2"
CLASSES = {
    "BatchNormalization": "keras_resv2.batch_norm",
    "RolledUnits": "keras_resv2.rolled",
    "DiscriminativeAdam": "keras_resv2.transfer.rates",
}
REQUIRES = {"requires": f"import {PACKAGE}"}


def register():
    """Registers the classes with Keras: now where it is loaded, else when it is."""
    if "keras" in sys.modules:
        _register_classes(sys.modules["keras"])
    elif not any(isinstance(finder, _WhenKerasIsImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenKerasIsImported())


def saying_what_to_import(build_config):
    """What `get_build_config` of a layer gives, with a line for those who open its file without this package.

    Keras puts all that a file says of a layer into its error message where the class is not registered.
    """
    return {**REQUIRES, **build_config} if build_config else build_config


def _register_classes(keras):
    registry = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        registry.setdefault(f"{PACKAGE}>{name}", _stand_in(name, module))


def _stand_in(name, module):
    """A class with the one method that Keras calls to open what was saved. The class itself replaces it on import."""

    def from_config(cls, config, **options):
        return getattr(importlib.import_module(module), name).from_config(config, **options)

    return type(name, (), {"from_config": classmethod(from_config), "__module__": module})


class _WhenKerasIsImported(importlib.abc.MetaPathFinder):
    """Finds Keras as Python does, and registers the classes after it is loaded; then it is gone."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        spec = importlib.util.find_spec(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            load = spec.loader.exec_module

            def load_and_register(module):
                load(module)
                _register_classes(module)

            spec.loader.exec_module = load_and_register
        return spec
