"""Infers the arguments that a network was built with from its layers."""

from keras_resv2.models.graph import all_layers
from keras_resv2.models.structure import infer_structure
from keras_resv2.resnet import feature_info


def infer_config(model):
    """Infers the arguments of `ResNet` that the outputs depend on: those of `infer_structure`, and output_stride.

    Raises:
        ValueError: see `keras_resv2.models.structure.infer_structure`.

    Example:

    >>> import keras_resv2
    >>> infer_config(keras_resv2.ResNet20())["projection"]
    'A'
    """
    return {**infer_structure(model), "output_stride": output_stride_of(model)}


def output_stride_of(model):
    """Returns the output stride of a network with dilated convolutions; None without them."""
    dilated = any(max(getattr(layer, "dilation_rate", None) or (1,)) > 1 for layer in all_layers(model))
    return feature_info(model)[-1].stride if dilated else None
