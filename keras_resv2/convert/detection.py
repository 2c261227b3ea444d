"""Detects the layout and architecture of weights of other libraries, and converts them to our names."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resv2.architectures import find_architecture
from keras_resv2.argument_checks import check_choice, some
from keras_resv2.convert.assumptions import CLASSIFIER, OWN_PIXELS, PIXELS, assumptions
from keras_resv2.convert.assumptions import ZERO_CHANNELS as ZERO_CHANNELS_ASSUMED
from keras_resv2.convert.equivalence import (
    EPSILON,
    ZERO_CHANNELS,
    with_epsilon,
    with_identity_batch_norms,
    with_zeros_on_both_sides,
)
from keras_resv2.convert.fit import best_fit, classes_of, seen_arguments
from keras_resv2.convert.layouts import KERAS, PYTORCH
from keras_resv2.convert.layouts.keras import KerasLayout
from keras_resv2.convert.network import classifier_layer, find_network
from keras_resv2.convert.readers import CONVENTIONS, STRUCTURE, read_source
from keras_resv2.convert.readers.keras_file import layer_config
from keras_resv2.convert.verification import agreeing, part_of, said_by
from keras_resv2.models.config import STEMS
from keras_resv2.models.graph import activation_name
from keras_resv2.resnet import build_named
from keras_resv2.storage.weight_file import check_values


@dataclasses.dataclass(frozen=True)
class Detected:
    """Weights of another library, under our names.

    Attributes:
        source: path of the file, or another label of the source.
        layout: name of the source's layout: "torchvision", "timm", "cifar", ...
        architecture: one of `keras_resv2.list_architectures()`, or of another depth, such as "resnet14".
        arguments: arguments of its builder that differ from the defaults.
        classes: number of classes; None without a classifier.
        assumed: what the source does not specify and was assumed, as phrases.
        weights: dictionary from ``<layer>/<variable>`` to a float32 array.
        classifier_activation: activation of the classifier, the default of `build`.
    """

    source: str
    layout: str
    architecture: str
    arguments: dict
    classes: int | None
    assumed: tuple[str, ...]
    weights: dict = dataclasses.field(repr=False)
    classifier_activation: str | None = "softmax"

    def of_dataset(self, name: str, pixels: Sequence) -> "Detected":
        """Returns the same with the pixel statistics of a dataset, if neither the source nor its layout specifies any.

        Args:
            name: name of the dataset, for `assumed`.
            pixels: ``(mean, std)``, as `keras_resv2.ResNet` takes `preprocessing`.
        """
        usual = {PIXELS.format(OWN_PIXELS.format(stem.dataset.name)) for stem in STEMS.values()}
        if not usual & set(self.assumed):
            return self
        phrase = PIXELS.format(f"the statistics of {name}")
        assumed = tuple(phrase if one in usual else one for one in self.assumed)
        return dataclasses.replace(self, arguments={**self.arguments, "preprocessing": pixels}, assumed=assumed)

    def build(self, **options: Any) -> keras.Model:
        """Builds the network with these weights.

        Args:
            **options: arguments of the builder that do not affect the weights: include_top, input_shape, pooling,
                classifier_activation, include_preprocessing, rolled, dtype, name, ...

        Returns:
            `keras.Model`.

        Raises:
            ValueError: if the builder rejects an option, or an option is `classes` or one of `arguments`.
        """
        if "classes" in options:
            raise ValueError(
                f"the weights have {self.classes or 'no'} classes: for a new classifier build with include_top=False, "
                "or make a weight folder and call from_pretrained(folder, classes=...)."
            )
        for name in options.keys() & self.arguments.keys():
            raise ValueError(
                f"{name} is what was found of the weights, {self.arguments[name]!r}: "
                f"for another, detect(source, {name}=...).build()."
            )
        own = {"include_top": self.classes is not None, "classifier_activation": self.classifier_activation}
        options = {**own, **options}
        return build_named(self.architecture, **self.arguments, weights=self.weights, classes=self.classes, **options)


def detect(source: Any, architecture: str | None = None, *, prefix: str | None = None, **structure: Any) -> Detected:
    """Reads weights of another library and detects their network.

    If the source is a PyTorch module or a Keras model, it is run, and its outputs are compared with ours.

    Args:
        source: path or address of a file, a `state_dict()` or another dictionary of arrays, a PyTorch module or a
            Keras model; as `keras_resv2.convert.readers.read_source` takes it.
        architecture: one of `keras_resv2.list_architectures()`, or another depth, as "resnet14"; None to
            detect it.
        prefix: prefix of the names of the network's tensors, if a checkpoint contains several networks.
        **structure: details that the source does not specify, instead of the assumptions: arguments of
            `keras_resv2.ResNet`, such as ``stride_on``, ``stem`` or ``preprocessing``; ``epsilon`` of batch
            normalization; ``zero_channels`` of option A, "both_sides" or "after".

    Returns:
        `Detected`.

    Raises:
        ValueError: if the source is damaged, has an unknown layout, or does not fit the network: the message lists
            missing and unexpected tensors, other shapes, and the nearest architecture. Or if the outputs of a whole
            network differ.
        FileNotFoundError, ImportError: if the file, or the package that reads it, is missing.

    Example:

    >>> detect("resnet18.pth").architecture  # doctest: +SKIP
    'resnet18'
    """
    return _detect(source, architecture, prefix, structure, (*PYTORCH, *KERAS))


def from_pytorch(source: Any, architecture: str | None = None, **arguments: Any) -> keras.Model:
    """Builds a network with PyTorch weights: torchvision, timm, pytorchcv, Hugging Face or common CIFAR code.

    Args:
        source: path or URL of a .pt, .pth or .safetensors file, a `state_dict()`, a checkpoint that contains one,
            or a module. Code in files is not executed.
        architecture: one of `keras_resv2.list_architectures()`, or of another depth; None to detect it.
        **arguments: arguments of the builder. Structural ones (``stride_on``, ``activated_shortcuts``,
            ``preprocessing``, ...), `prefix`, `epsilon` and `zero_channels` are those of `detect`.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)``, 0 to 255, to probabilities; with
        ``include_preprocessing=False, classifier_activation=None`` from what PyTorch's network takes,
        channels last, to logits.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `detect`.

    Example:

    >>> model = from_pytorch("resnet18.pth", "resnet18")  # doctest: +SKIP
    """
    return _convert(source, architecture, arguments, PYTORCH)


def from_keras_applications(source: Any, architecture: str | None = None, **arguments: Any) -> keras.Model:
    """Builds a network with Keras weights: keras.applications, KerasHub, tf2cv or Keras' example cifar10_resnet.

    Args:
        source: path of a .h5, .weights.h5 or .keras file, of a SavedModel, or of a TensorFlow checkpoint; or the model.
        architecture: one of `keras_resv2.list_architectures`, or of another depth; None to detect it.
        **arguments: arguments of the builder.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)`` in the order red, green, blue, 0 to
        255, to probabilities: the preprocessing that the weights expect is part of the model. The
        outputs of its stages are theirs too.

    Raises:
        ValueError, FileNotFoundError: as `detect`.

    Example:

    >>> model = from_keras_applications(keras.applications.ResNet50V2())  # doctest: +SKIP
    """
    return _convert(source, architecture, arguments, KERAS)


def _convert(source, architecture, arguments, layouts):
    own = (*STRUCTURE, *CONVENTIONS)
    structure = {key: value for key, value in arguments.items() if key in own}
    options = {key: value for key, value in arguments.items() if key not in (*own, "prefix")}
    return _detect(source, architecture, arguments.get("prefix"), structure, layouts).build(**options)


def _detect(source, architecture, prefix, structure, layouts):
    for name in structure:
        check_choice("argument", name, (*STRUCTURE, *CONVENTIONS))
    if architecture is not None:
        find_architecture(architecture)
    source = read_source(source)
    network = find_network(source, layouts, prefix)
    layout = network.layout
    if isinstance(layout, KerasLayout) and layout.check_config is not None:
        layout.check_config(source.config, source.label)
    ours = source.said.get(network.prefix, {})
    said = {**said_by(source, network), **ours, **structure}
    usual = layout.by_source(network.spelled.values(), source.label) if layout.by_source else {}
    conventions = {"epsilon": EPSILON, "zero_channels": ZERO_CHANNELS[0]}
    structure = {**seen_arguments(network), **conventions, **layout.structure, **usual, **said}

    def make(structure):
        return _detected(source, network, architecture, structure)

    doubt = None
    if source.whole is None:
        found = make(structure)
    else:
        found, structure, doubt = agreeing(source, network, structure, said, make)
    assumed = _about_the_source(network)
    if layout in PYTORCH:
        compared = source.whole is not None and doubt is None
        assumed += assumptions(layout, structure, said, found.weights, ours=bool(ours), compared=compared)
    else:
        if layout.pixels and "preprocessing" not in said:
            assumed += (PIXELS.format(layout.pixels),)
        if found.classes is not None and source.whole is None and source.config is None:
            assumed += (CLASSIFIER,)
        if structure["projection"].startswith("A") and "zero_channels" not in said and source.whole is None:
            assumed += (ZERO_CHANNELS_ASSUMED[structure["zero_channels"]],)
    return dataclasses.replace(found, assumed=(*assumed, *filter(None, [doubt])))


def _detected(source, network, architecture, structure):
    """Returns the `Detected` for one choice of arguments."""
    structure = dict(structure)
    epsilon, zero_channels = structure.pop("epsilon"), structure.pop("zero_channels")
    check_choice("zero_channels", zero_channels, ZERO_CHANNELS)
    number = isinstance(epsilon, (int, float, np.integer, np.floating)) and not isinstance(epsilon, bool)
    if not number or not 0 <= epsilon < 1:
        raise ValueError(f"epsilon={epsilon!r} must be a number of at least 0 and below 1, such as 1e-5.")
    if not isinstance(structure.get("conv_bias", False), bool):
        raise ValueError(f"conv_bias={structure['conv_bias']!r} must be True or False.")
    fit = best_fit(network, structure, source.label, architecture)
    weights = network.layout.weights(network.tensors, fit.shapes)
    check_values(weights, source.label, lambda name: network.spelled.get(network.layout.key(name), name))
    weights = with_identity_batch_norms(with_epsilon(weights, epsilon), fit.shapes)
    if zero_channels == "after" and structure["projection"].startswith("A"):
        weights = with_zeros_on_both_sides(weights)
    weights = {name: np.ascontiguousarray(array, "float32") for name, array in weights.items()}
    return Detected(
        source.label,
        network.layout.name,
        fit.architecture,
        fit.arguments,
        classes_of(network),
        (),
        weights,
        _classifier_activation(source, network),
    )


def _classifier_activation(source, network):
    """Returns the classifier activation of a Keras model; softmax if it returns logits, as PyTorch networks do."""
    name = classifier_layer(network)
    if isinstance(source.whole, keras.Model):
        layers = [*part_of(source.whole, network.prefix).layers, *source.whole.layers]
        dense = [layer for layer in layers if layer.name == name]
        activation = activation_name(dense[0]) if dense else None
    else:
        arguments = layer_config(source.config, name) or {}
        activation = arguments.get("activation")
    return activation if isinstance(activation, str) and activation != "linear" else "softmax"


def _about_the_source(network):
    """Returns phrases about which part of a checkpoint was used."""
    phrases = []
    if network.others:
        names = some([repr(name) for name in network.others])
        phrases.append(f"that the network under {network.prefix!r} is meant, not {names} (else: prefix=...)")
    if network.outside:
        count = len(network.outside)
        tensors = f"{count} tensor{'s' * (count > 1)} outside of {network.prefix!r} ({some(list(network.outside))})"
        phrases.append(f"that {tensors} {'are' if count > 1 else 'is'} no part of the network")
    return tuple(phrases)
