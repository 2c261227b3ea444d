"""The builders, ``ResNet20`` to ``PreActResNet200``: one function for each row of the table of architectures."""

import dataclasses
import os
from typing import Any

import keras

from keras_resv2.architectures import ARCHITECTURES, Architecture, find_architecture
from keras_resv2.pretrained import SOURCES, weights_for_builder
from keras_resv2.resnet import ResNet


def build(architecture: str, **arguments: Any) -> keras.Model:
    """Builds a network by name.

    Args:
        architecture: one of `list_architectures()`, or a name with another depth, such as "resnet14" or
            "wide_resnet34_10".
        **arguments: arguments of the builder, see `ResNet`.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if the name is unknown (the message lists the closest ones), or as in `ResNet`.

    Example:

    >>> build("resnet20", classes=5).output_shape
    (None, 5)
    """
    if architecture not in BUILDERS:
        return _make_builder(architecture, find_architecture(architecture))(**arguments)
    return BUILDERS[architecture](**arguments)


_DOC = """{builder}: {layers} ({source}).

    Args:
        include_top: whether to include the classifier.
        weights: None (random), the dataset that pretrained weights were trained on ("cifar10", or
            "cifar10@1" for version 1), the path of a weight file, or a dictionary of arrays.
        input_tensor: Keras tensor to use as the input.
        input_shape: shape of one image, ``(height, width, 3)``.
        pooling: pooling of the output without the classifier: None (feature maps), "avg" or "max".
        classes: number of classes; defaults to that of the dataset.
        classifier_activation: activation of the classifier; None for logits.
        name: name of the model.
        activation, shortcut, branch, projection, stride_on, stem, preprocessing, stride_in, conv_bias,
        activated_shortcuts, output_stride, padding, width, include_preprocessing, rolled, rematerialize, dtype: see
            `keras_resv2.ResNet`.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)``, 0 to 255, to class
        probabilities ``(batch, classes)``; without the classifier to feature maps, or to
        ``(batch, channels)`` with pooling.

    Raises:
        ValueError: as in `keras_resv2.ResNet`, or if the weights are missing, damaged or from another network.

    Example:

    >>> model = {builder}(classes=5)
    >>> model.output_shape
    (None, 5)
    """


def _differs(value, default):
    """Returns whether an argument is not its default; arrays are not compared, they differ."""
    return value is not default and not (type(value) is type(default) and value == default)


def _is_path(weights):
    """Returns whether `weights` names a file rather than a dataset."""
    return (
        "/" in weights
        or os.sep in weights
        or weights.endswith(".h5")
        or (not weights.isidentifier() and os.path.isfile(weights))
    )


def layers_of(architecture: Architecture) -> str:
    """Returns the number of layers of an architecture; of a wide one the paper's name and the arguments of `ResNet`.

    Example:

    >>> layers_of(ARCHITECTURES["resnet50"]), layers_of(ARCHITECTURES["wide_resnet28_10"])
    ('50 layers', 'WRN-28-10, depth=26 and width=10 of ResNet')
    """
    if architecture.width == 1:
        return f"{architecture.depth} layers"
    name = architecture.builder.replace("WideResNet", "WRN-").replace("_", "-")
    return f"{name}, depth={architecture.depth} and width={architecture.width} of ResNet"


def _make_builder(key, architecture):
    def builder(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=None,
        classifier_activation="softmax",
        name=None,
        *,
        activation=architecture.activation,
        shortcut="identity",
        branch=None,
        projection=None,
        stride_on=None,
        stem=None,
        preprocessing=None,
        stride_in="first",
        conv_bias=False,
        activated_shortcuts="first_and_projections",
        padding="torch",
        output_stride=None,
        width=architecture.width,
        include_preprocessing=True,
        rolled=False,
        rematerialize=False,
        dtype=None,
    ):
        variant = {key: value for key, value in locals().items() if key in optional and _differs(value, optional[key])}
        if isinstance(weights, str) and weights.startswith(tuple(SOURCES)):
            raise ValueError(f"weights={weights!r} state their own network: from_pretrained({weights!r}) builds it.")
        if isinstance(weights, str) and not _is_path(weights):
            weights, classes, variant = weights_for_builder(key, weights, include_top, classes, variant)
        return ResNet(
            **architecture.arguments(**variant),
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    optional = builder.__kwdefaults__ or {}
    builder.__name__ = builder.__qualname__ = architecture.builder
    builder.__annotations__ = {key: kind for key, kind in ResNet.__annotations__.items() if key != "depth"}
    builder.__doc__ = _DOC.format(layers=layers_of(architecture), **dataclasses.asdict(architecture))
    return builder


BUILDERS = {key: _make_builder(key, architecture) for key, architecture in ARCHITECTURES.items()}
globals().update({builder.__name__: builder for builder in BUILDERS.values()})
