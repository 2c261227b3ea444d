"""`ResNet`, which builds any network of the package, and `features`, which extracts feature maps for other heads."""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_resv2.architectures import find_architecture, name_architecture
from keras_resv2.argument_checks import check_choice, check_count
from keras_resv2.models.config import STEMS, resolve_network
from keras_resv2.models.graph import data_format_of, deep_graph
from keras_resv2.models.layers import LayerFactory
from keras_resv2.models.network import body, preprocess
from keras_resv2.models.preprocessing import pixels_of_channels
from keras_resv2.models.shortcuts import Shortcut
from keras_resv2.models.structure import check_structure
from keras_resv2.models.weights import match_weights
from keras_resv2.storage.weight_file import read_structure, read_weights


def ResNet(
    depth: int,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    padding: str = "torch",
    output_stride: int | None = None,
    width: int = 1,
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network of any depth, activation order and shortcut of He et al. 2016.

    Args:
        depth: number of weighted layers: 18, 34, 50, 101, 152 or 200 (ImageNet stages), 6n+2 (three stages of n basic
            units) or 9n+2 (three stages of n bottleneck units).
        activation: placement of BN and ReLU (the paper's Fig. 4): "original" (ResNet-v1), "bn_after_addition",
            "relu_before_addition", "relu_only_preactivation" or "full_preactivation" (ResNet-v2).
        shortcut: what the shortcut does (Fig. 2): "identity", "constant_scaling", "exclusive_gating",
            "shortcut_only_gating", "conv1x1", "dropout", or "none" for the plain network. For a shortcut with
            parameters, an object of `keras_resv2.shortcuts`, such as ``ExclusiveGating(bias=-7)``, or its text form
            ``"exclusive_gating(bias=-7)"``.
        branch: "basic" or "bottleneck"; None for the paper's choice at this depth.
        projection: shortcut used where the size changes: "A" (no parameters), "B" (1x1 convolution) or "C" (1x1
            convolution in every unit). None: "A" for basic CIFAR networks, "C" with the shortcut "conv1x1", else "B".
            "A_average" is "A" with 2x2 average pooling instead of subsampling, as some implementations do.
        stride_on: convolution of a bottleneck that has the stride: "3x3" (torchvision, timm) or "1x1" (the papers).
            None: "3x3" for ImageNet stages, "1x1" for CIFAR stages.
        stem: "cifar" (3x3 convolution) or "imagenet" (7x7 convolution with stride 2, max-pooling);
            "imagenet_zero_padded" if the pooling pads with zeros; "imagenet_activated" if BN and
            ReLU follow the convolution of a pre-activation network. Found in other implementations: "cifar_pooled",
            "cifar_strided", "cifar_strided_pooled" (3x3 convolution with max-pooling, with stride 2, with both),
            "imagenet_unpooled", "imagenet_unstrided", "imagenet_unstrided_pooled" (7x7).
        preprocessing: statistics to normalize pixels with: those of a dataset of the registry ("cifar10", "cifar100"),
            "torch" (ImageNet's mean and standard deviation), "caffe" (ImageNet's mean alone) or "tf" (from -1 to 1),
            the last three with the names of keras.applications but always in RGB order; or ``(mean, std)``, each of
            three numbers on the 0-255 scale. None for CIFAR-10's, or ImageNet's with an "imagenet" stem.
        stride_in: unit of a stage that has the stride: "first"; or "last", where the last unit carries the stride of
            the next stage (keras.applications' ResNetV2), with a subsampled shortcut, unless the projection is
            "C" or "A_average".
        conv_bias: whether convolutions that are not followed by BN have a bias.
        activated_shortcuts: which shortcuts of pre-activation networks start from the activation before
            the branch: "first_and_projections" (the paper), "projections" (timm) or "none".
        output_stride: pixels of the input per pixel of the last feature maps, along each side, for segmentation and
            detection: 8 or 16 in place of ImageNet's 32, 1 or 2 in place of CIFAR's 4. Strides beyond it become
            dilations; weights are the same. None for all strides.
        padding: zero padding of strided convolutions: "torch", the same on all sides, or "tensorflow", as
            ``padding="same"`` of Keras: more at the end if the side is even.
        width: widening factor of wide residual networks (Zagoruyko & Komodakis 2016). Multiplies all channels of basic
            units, and the inner channels of bottlenecks. The default projection of wide CIFAR networks is "B".
            WRN-28-10 is ``ResNet(26, width=10, activation="full_preactivation")``: its authors count the three
            projections, but not the classifier.
        include_top: whether to include the classifier.
        weights: None (random), the path of a weight file of this architecture, or a dictionary from
            ``<layer>/<variable>`` to an array, as returned by `keras_resv2.storage.weight_file.read_weights`.
        input_tensor: Keras tensor to use as the input.
        input_shape: shape of one image, ``(height, width, channels)`` in channels_last. Defaults to the dataset's image
            size with the classifier, and to any size with three channels without. For other numbers of channels,
            `preprocessing` needs one number per channel; the average of three numbers is used for every channel.
        pooling: pooling of the output without the classifier: None (feature maps), "avg" or "max".
        classes: number of classes; defaults to 10 (CIFAR stem) or 1000.
        classifier_activation: activation of the classifier; None for logits.
        include_preprocessing: whether the model takes raw pixels from 0 to 255 and normalizes them
            itself.
        rolled: whether all units of a stage after the first form one layer that loops over stacked weights
            (`keras_resv2.models.scan`): deep networks then build and compile as fast as shallow ones. Weight files and
            outputs are the same. Stages with fewer than three units of the same shape remain layers.
        rematerialize: whether the backward pass of a rolled network recomputes the activations inside the units, so
            that a step needs memory for one unit at a time.
        dtype: Keras dtype policy, such as "mixed_bfloat16"; None for the global policy. The classifier's output is
            always float32. Training in "mixed_float16" needs loss scaling: set the global policy
            (`keras.config.set_dtype_policy`), for which Keras scales the loss automatically, or compile with
            `keras.optimizers.LossScaleOptimizer`.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels ``(batch, height, width, 3)`` to
        ``(batch, classes)``; without the classifier to ``(batch, h, w, channels)`` or, with
        pooling, ``(batch, channels)``.

    Raises:
        ValueError: if an argument is not a valid choice, the arguments contradict each other, or the weights are
            damaged or belong to another network.
        FileNotFoundError: if the weight file does not exist.

    Example:

    >>> model = ResNet(110, activation="full_preactivation", shortcut="exclusive_gating(bias=-6)")
    >>> model.output_shape
    (None, 10)
    """
    structure = (preprocessing, stride_in, conv_bias, activated_shortcuts, padding, output_stride, width)
    layout, spec = resolve_network(depth, activation, shortcut, branch, projection, stride_on, stem, *structure)
    classes = _check_head(include_top, pooling, classes, STEMS[layout.stem])
    data_format = keras.config.image_data_format()
    inputs = _input(input_tensor, input_shape, include_top, layout, data_format)
    if rematerialize and not rolled:
        raise ValueError("rematerialize=True requires a rolled network: build it with rolled=True as well.")
    if isinstance(weights, str) and weights.isidentifier() and not os.path.exists(weights):
        raise FileNotFoundError(
            f"weights={weights!r} is not a file. Published weights have the names of networks, such as "
            "ResNet20(weights='cifar10') and from_pretrained('resnet20-cifar10')."
        )
    values = weights if isinstance(weights, dict) else {} if weights is None else read_weights(weights)
    layers = LayerFactory(dtype, data_format, values, padding=layout.padding)
    with deep_graph():
        x = inputs
        if include_preprocessing:
            assert layout.pixels is not None  # `resolve_network` fills in those of the stem's dataset
            channels = inputs.shape[layers.channel_axis]
            x = preprocess(x, *pixels_of_channels(layout.pixels, channels), data_format)
        x = body(x, layout, spec, layers, rolled, rematerialize)
        if include_top or pooling == "avg":
            x = keras.layers.GlobalAveragePooling2D(data_format=data_format, dtype=dtype, name="head_pool")(x)
        elif pooling == "max":
            x = keras.layers.GlobalMaxPooling2D(data_format=data_format, dtype=dtype, name="head_pool")(x)
        if include_top:
            x = layers.classifier(x, classes, classifier_activation, "head_dense")
        if input_tensor is not None:
            sources = keras.utils.get_source_inputs(input_tensor)
            inputs = sources if len(sources) > 1 else sources[0]
        model = keras.Model(inputs, x, name=name or _default_name(depth, activation, width))
        # The layers before the tensor are the caller's: the weights are not theirs.
        own = model if input_tensor is None or inputs is input_tensor else keras.Model(input_tensor, x, name=model.name)
    if weights is not None:
        matched = match_weights(own, values, "weights" if isinstance(weights, dict) else weights)
        if not isinstance(weights, dict):
            check_structure(own, read_structure(weights), weights)
        for key, (variable, array) in matched.items():
            if key not in layers.created and hasattr(variable, "assign"):  # layers of the user's shortcut, not rolled
                variable.assign(array)
    return model


def build_named(architecture: str, **arguments: Any) -> keras.Model:
    """Builds a named architecture. Named weights are not supported here, see `keras_resv2.build`.

    Args:
        architecture: see `keras_resv2.architectures.find_architecture`.
        **arguments: passed to `ResNet`.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if there is no such architecture, or as in `ResNet`.

    Example:

    >>> build_named("preact_resnet20").name
    'preact_resnet20'
    """
    return ResNet(**find_architecture(architecture).arguments(**arguments))


def features(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """Builds a model that outputs the feature maps of each stage, for detection and segmentation heads.

    Weights are shared with `model`, not copied.

    Args:
        model: a network of this package, with or without its classifier.
        names: the outputs to return: "stem", "stage1", "stage2", ..., and in pre-activation networks "head" (the last
            stage after its final BN and ReLU); for stems with pooling also "stem_conv", the stem before it. None
            for all stages.

    Returns:
        A `keras.Model` that gives a dictionary from each name to feature maps ``(batch, h, w, channels)``. In
        pre-activation networks a stage ends with the addition, so a head on top of it should start with BN and ReLU.

    Raises:
        ValueError: if the model has no stages, or not the ones named; or it is folded, and the next layers' batch
            normalization is part of them: that is the stem of pre-activation networks, in plain ones every stage.

    Example:

    >>> backbone = features(ResNet(50, include_top=False))
    >>> list(backbone.output)
    ['stage1', 'stage2', 'stage3', 'stage4']
    """
    groups = _groups(model)
    outputs = {name: layers[-1].output for name, layers in groups.items()}
    before = list(itertools.takewhile(lambda layer: not layer.name.startswith("stem_pool"), groups.get("stem", [])))
    if 0 < len(before) < len(groups["stem"]):
        outputs["stem_conv"] = before[-1].output
    stages = [name for name in outputs if name.startswith("stage")]
    chosen = stages if names is None else [check_choice("names", name, list(outputs)) for name in names]
    for name in chosen:
        if name in groups and _normalized_for_next(groups, name):
            raise ValueError(
                f"{name!r} of model {model.name!r} has the batch normalization of the layers after it folded into it: "
                "fold afterwards, fold(features(model))."
            )
    with deep_graph():
        return keras.Model(model.input, {name: outputs[name] for name in chosen}, name=f"{model.name}_features")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One of the feature maps returned by `features`.

    Attributes:
        name: name of the output: "stage1", ...
        channels: number of channels.
        stride: pixels of the input per pixel of the map, along each side.
    """

    name: str
    channels: int
    stride: int


def feature_info(model: keras.Model) -> list[Feature]:
    """Returns names, channels and strides of the stages, for heads that need them.

    Args:
        model: a network of this package, with or without its classifier.

    Returns:
        List of `Feature`, one for each output of ``features(model)``, in the same order.

    Raises:
        ValueError: if the model has no stages.

    Example:

    >>> [(f.name, f.channels, f.stride) for f in feature_info(ResNet(18))][-1]
    ('stage4', 512, 32)
    """
    stride, found = 1, []
    axis = -1 if data_format_of(model) == "channels_last" else 1
    for name, layers in _groups(model).items():
        for layer in layers:  # branches and stem only: shortcuts have the same strides
            if re.fullmatch(r"stem_(conv|pool|pool_subsample)|stage\d+_unit\d+_conv\d", layer.name):
                stride *= layer.strides[0]
        if name.startswith("stage"):
            found.append(Feature(name, layers[-1].output.shape[axis], stride))
    return found


def _groups(model):
    """Groups the layers of the stem, of each stage and of the head before its pooling, in topological order."""
    groups = {}
    for layer in model.layers:
        group = layer.name.split("_")[0]
        if re.fullmatch(r"stem|stage\d+|head", group) and layer.name not in ("head_pool", "head_dense"):
            groups.setdefault(group, []).append(layer)
    if not any(name.startswith("stage") for name in groups):
        raise ValueError(
            f"model {model.name!r} has no layers named stage1_...: pass a network built by keras_resv2, "
            "not a model around it."
        )
    return groups


def _normalized_for_next(groups, name):
    """Returns whether `fold` moved the batch normalization before the next group's activation into this group.

    Only the stem of a folded pre-activation network has a bias before an activation without batch normalization.
    """
    stem, first = groups.get("stem"), {layer.name for layer in groups.get("stage1", ())}
    if not stem or "stage1_unit1_preact_relu" not in first or "stage1_unit1_preact_bn" in first:
        return False
    after = list(groups)[list(groups).index(name) + 1 :]
    return bool(after) and getattr(stem[-1], "use_bias", False) and not groups[name][-1].name.endswith("_add")


def _check_head(include_top, pooling, classes, stem):
    if pooling is not None:
        check_choice("pooling", pooling, ("avg", "max"))
    classes = stem.dataset.classes if classes is None else classes
    return check_count("classes", classes) if include_top else classes


def _input(input_tensor, input_shape, include_top, layout, data_format) -> Any:
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    elif input_shape is not None:
        if not isinstance(input_shape, (tuple, list)):
            raise ValueError(f"input_shape={input_shape!r} must be (height, width, channels).")
        shape = tuple(input_shape)
    else:
        usual = STEMS[layout.stem].image_shape if include_top else None
        height, width, _ = usual or (None, None, 3)
        shape = (height, width, 3) if data_format == "channels_last" else (3, height, width)
    if len(shape) != 3:
        raise ValueError(f"input_shape={shape} must have three entries: height, width and channels.")
    channels = shape[-1] if data_format == "channels_last" else shape[0]
    if channels is None:
        raise ValueError(f"input_shape={shape} must specify the number of channels ({data_format}).")
    sides = shape[:2] if data_format == "channels_last" else shape[1:]
    stem = STEMS[layout.stem]
    smallest = layout.output_stride or stem.total_stride * 2 ** (len(layout.units) - 1)
    if any(side is not None and side < smallest for side in sides):
        raise ValueError(
            f"input_shape={shape} is too small: the {layout.stem} stem and {len(layout.units)} stages divide height "
            f"and width by {smallest}, so each must be at least {smallest}"
            + (", or build with stem='cifar'." if layout.stem != "cifar" else ".")
        )
    return keras.Input(shape, name="pixels") if input_tensor is None else input_tensor


def _default_name(depth, activation, width):
    name, unnamed = name_architecture(depth, activation, width)
    others = [activation] if activation not in ("original", "full_preactivation") else []
    return "_".join([name, *others, *(f"{key}{value}" for key, value in unnamed.items())])
