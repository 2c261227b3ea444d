"""keras-resv2: residual networks in Keras, with pretrained weights and their measured test errors.

>>> import keras_resv2
>>> model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
>>> model.input_shape, model.output_shape
((None, 32, 32, 3), (None, 10))
"""

import importlib

from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.registration import register

__version__ = "0.3.0.dev0"

# The module of each public name. Modules are imported on first use, so that what does not need Keras, such as listing
# the weights, does not wait for it to start.
_MODULES = {
    "ResNet": "keras_resv2.resnet",
    "features": "keras_resv2.resnet",
    "feature_info": "keras_resv2.resnet",
    "BatchNormalization": "keras_resv2.models.batch_norm",
    "to_stock_layers": "keras_resv2.models.batch_norm",
    "fold": "keras_resv2.models.folding",
    "deep_graph": "keras_resv2.models.graph",
    "export": "keras_resv2.exporting.exporter",
    "count_multiply_adds": "keras_resv2.models.flops",
    "build": "keras_resv2.builders",
    "list_architectures": "keras_resv2.architectures",
    "from_pretrained": "keras_resv2.pretrained",
    "list_pretrained": "keras_resv2.pretrained",
    "pretrained_card": "keras_resv2.pretrained",
    "decode_predictions": "keras_resv2.labels",
    "freeze": "keras_resv2.transfer",
    "unfreeze": "keras_resv2.transfer",
    "fine_tune": "keras_resv2.transfer",
    "save_weight_folder": "keras_resv2.transfer",
    "prepare_images": "keras_resv2.data",
    "read_folder": "keras_resv2.data",
    "read_image": "keras_resv2.data",
    "measure_error": "keras_resv2.evaluation",
    "load_weights": "keras_resv2.storage.weight_file",
    "save_weights": "keras_resv2.storage.weight_file",
    "embed": "keras_resv2.embedding",
    "nearest_neighbors": "keras_resv2.embedding",
    "SGD": "keras_resv2.optimizers",
}
_MODULES.update({row.builder: "keras_resv2.builders" for row in ARCHITECTURES.values()})

_PACKAGES = ("analysis", "convert", "data", "embedding", "hub", "shortcuts", "transfer")

__all__ = [*_MODULES, *_PACKAGES]


register()  # so that `keras.models.load_model` finds the classes of this package


def __getattr__(name):
    if name in _PACKAGES:
        value = importlib.import_module(f"keras_resv2.{name}")
    elif name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'keras_resv2' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
