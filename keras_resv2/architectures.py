"""The named networks: one table, and the builders made from it. The table needs no Keras."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from typing import TYPE_CHECKING, Any

from keras_resv2.choices import check_choice

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A named network: what `ResNet` is called with.

    Attributes:
        builder: name of the function, "PreActResNet20".
        depth: weighted layers.
        activation: "original" (v1) or "full_preactivation" (v2).
        source: paper that has it.
    """

    builder: str
    depth: int
    activation: str
    source: str


V1 = "He et al. 2015, arXiv 1512.03385"
V2 = "He et al. 2016, arXiv 1603.05027"
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 164, 1001)
IMAGENET_DEPTHS = (18, 34, 50, 101, 152, 200)
LAYERS_PER_N = (6, 9)  # of CIFAR networks: 6n+2 of basic units, 9n+2 of bottlenecks
DEEPEST = 1202  # a card from a stranger may name any depth

ARCHITECTURES = {
    **{f"resnet{d}": Architecture(f"ResNet{d}", d, "original", V1) for d in (*CIFAR_DEPTHS, 1202, *IMAGENET_DEPTHS)},
    **{
        f"preact_resnet{d}": Architecture(f"PreActResNet{d}", d, "full_preactivation", V2)
        for d in (*CIFAR_DEPTHS, *IMAGENET_DEPTHS)
    },
}


def list_architectures(pattern: str = "*") -> list[str]:
    """Names of the networks that this package builds.

    Args:
        pattern: shell-style, as "preact_*".

    Returns:
        List of names, each also the lower-case name of a builder's network.

    Example:

    >>> list_architectures("*1001")
    ['resnet1001', 'preact_resnet1001']
    """
    return fnmatch.filter(ARCHITECTURES, pattern)


def find_architecture(name: str) -> Architecture:
    """The row of an architecture, of any depth that there is: "resnet14", "preact_resnet38".

    Args:
        name: one of `list_architectures()`, or "resnet" or "preact_resnet" with another depth of 6n+2 or 9n+2,
            up to 1,202.

    Returns:
        `Architecture`; those that have no builder are built by `build`.

    Raises:
        ValueError: there is none of that name; the message has the nearest.

    Example:

    >>> find_architecture("resnet14").depth
    14
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    match = re.fullmatch(r"(preact_)?resnet([1-9]\d{0,3})", str(name))
    depth = int(match[2]) if match else 0
    if 2 < depth <= DEEPEST and any((depth - 2) % layers == 0 for layers in LAYERS_PER_N):
        activation, source = ("full_preactivation", V2) if match[1] else ("original", V1)
        return Architecture("ResNet", depth, activation, source)
    return ARCHITECTURES[check_choice("architecture", name, ARCHITECTURES)]


def is_architecture(name: str) -> bool:
    """Whether `find_architecture` knows a name: a named network, or one of another depth of 6n+2 or 9n+2.

    Example:

    >>> is_architecture("preact_resnet29"), is_architecture("resnet30"), is_architecture("resnet20-cifar10")
    (True, False, False)
    """
    try:
        find_architecture(name)
    except ValueError:
        return False
    return True


def build(architecture: str, **arguments: Any) -> keras.Model:
    """The network of that name.

    Args:
        architecture: one of `list_architectures()`, or of another depth, as `find_architecture` takes it.
        **arguments: of the builder, as `ResNet` takes them.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: an unknown name (the message has the nearest), or as `ResNet`.

    Example:

    >>> build("resnet20", classes=5).output_shape
    (None, 5)
    """
    if architecture not in BUILDERS:
        return _make_builder(architecture, find_architecture(architecture))(**arguments)
    return BUILDERS[architecture](**arguments)


_DOC = """{builder}: {depth} layers ({source}).

    Args:
        include_top: whether the classifier is part of the model.
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or
            "cifar10@1" for version 1), the path of a weight file, or a dictionary of arrays.
        input_tensor: Keras tensor to use as the input.
        input_shape: shape of one picture, ``(height, width, 3)``.
        pooling: without the classifier, None (feature maps), "avg" or "max".
        classes: of the classifier; by default the dataset's.
        classifier_activation: of the classifier; None for logits.
        name: of the model.
        activation, shortcut, branch, projection, stride_on, stem, preprocessing, stride_in, conv_bias,
        activated_shortcuts, include_preprocessing, rolled, rematerialize, dtype: as `keras_resv2.ResNet` takes them.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)``, 0 to 255, to class
        probabilities ``(batch, classes)``; without the classifier to feature maps, or to
        ``(batch, channels)`` with pooling.

    Raises:
        ValueError: as `keras_resv2.ResNet`; or there are no such weights, or they are damaged or
            of another network.

    Example:

    >>> model = {builder}(classes=5)
    >>> model.output_shape
    (None, 5)
    """


def _is_path(weights):
    """Whether `weights` names a file, not a dataset."""
    return os.sep in weights or weights.endswith(".h5")


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
        include_preprocessing=True,
        rolled=False,
        rematerialize=False,
        dtype=None,
    ):
        variant = {key: value for key, value in locals().items() if key in optional and value != optional[key]}
        from keras_resv2.resnet import ResNet  # brings Keras

        if isinstance(weights, str) and not _is_path(weights):
            from keras_resv2 import pretrained  # the layer above: only named weights need it

            weights, classes, variant = pretrained.weights_for_builder(key, weights, include_top, classes, variant)
        return ResNet(
            architecture.depth,
            **{"activation": architecture.activation, **variant},
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    optional = builder.__kwdefaults__
    builder.__name__ = builder.__qualname__ = architecture.builder
    builder.__doc__ = _DOC.format(**dataclasses.asdict(architecture))
    return builder


BUILDERS = {key: _make_builder(key, architecture) for key, architecture in ARCHITECTURES.items()}
globals().update({builder.__name__: builder for builder in BUILDERS.values()})
