"""`ResNet`: stem, stages of residual units, head.

Layer names, relied on by weight files, surgery and converters (S: stage from 1, U: unit from 1,
K: convolution of the branch from 1; only those that the network has):

| layer | name |
| --- | --- |
| input | `pixels` |
| pixels to normalised input | `preprocessing` |
| stem | `stem_conv`, `stem_bn`, `stem_relu`, `stem_pool`, `stem_pool_subsample` |
| activation before the branch | `stageS_unitU_preact_bn`, `_preact_relu` |
| branch | `stageS_unitU_convK`, `_bnK`, `_reluK` (what follows convolution K) |
| 1x1 convolution of the shortcut | `stageS_unitU_shortcut_conv`, `_shortcut_bn` |
| option A, and strides in a last unit | `stageS_unitU_shortcut_subsample` or `_shortcut_average`, `_shortcut_pad` |
| scaling, dropout | `stageS_unitU_shortcut_scale`, `_branch_scale`, `_shortcut_dropout` |
| gates | `stageS_unitU_gate_conv`, `_gate_carry`, `_shortcut_gated`, `_branch_gated` |
| addition, and what follows it | `stageS_unitU_add`, `_postact_bn`, `_postact_relu` |
| after the last addition of pre-activation networks | `head_bn`, `head_relu` |
| head | `head_pool`, `head_dense` |

Explicit padding before a strided convolution or a pooling is the layer's name with `_pad`. In a rolled
network units 2 to 9 of a stage are one layer, `stageS_unit2_to_9`.
"""

import os
import re
from collections.abc import Callable, Sequence

import keras

from keras_resv2.choices import check_choice, check_count
from keras_resv2.graphs import deep_graph
from keras_resv2.layers import Layers
from keras_resv2.layouts import STEMS, resolve_network
from keras_resv2.rolled import rolled_units
from keras_resv2.shortcuts import Shortcut
from keras_resv2.units import residual_unit


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
    """A residual network of any depth, activation order and shortcut of He et al. 2016.

    Args:
        depth: weighted layers: 18, 34, 50, 101, 152 or 200 (ImageNet stages), 6n+2 (three stages of
            n basic units) or 9n+2 (three stages of n bottleneck units).
        activation: where BN and ReLU stand (the paper's Fig. 4): "original" (ResNet-v1),
            "bn_after_addition", "relu_before_addition", "relu_only_preactivation" or
            "full_preactivation" (ResNet-v2).
        shortcut: what the shortcut does (Fig. 2): "identity", "constant_scaling",
            "exclusive_gating", "shortcut_only_gating", "conv1x1", "dropout", or "none" for the plain
            network. With parameters: an object of `keras_resv2.shortcuts`, as
            ``ExclusiveGating(bias=-7)``, or its text ``"exclusive_gating(bias=-7)"``.
        branch: "basic" or "bottleneck"; None for the paper's choice at this depth.
        projection: shortcut where the size changes: "A" (no parameters), "B" (1x1 convolution) or
            "C" (1x1 convolution in every unit). None: "A" for basic CIFAR networks, "C" with the
            shortcut "conv1x1", else "B". "A_average" is "A" with averages of 2x2 pixels in place of every
            second pixel, as some code has it.
        stride_on: convolution of a bottleneck that takes the stride: "3x3" (torchvision, timm) or
            "1x1" (the papers). None: "3x3" for ImageNet stages, "1x1" for CIFAR stages.
        stem: "cifar" (3x3 convolution) or "imagenet" (7x7 convolution with stride 2, max-pooling);
            "imagenet_zero_padded" if the pooling sees zeros around the picture; "imagenet_activated" if BN and ReLU
            follow the convolution of a pre-activation network. Of other code: "cifar_pooled",
            "cifar_strided", "cifar_strided_pooled" (3x3 convolution with max-pooling, with stride 2, with both),
            "imagenet_unpooled", "imagenet_unstrided", "imagenet_unstrided_pooled" (7x7).
        preprocessing: what pixels are normalised with: the statistics of a dataset of the registry
            ("cifar10", "cifar100"), "torch" (ImageNet's mean and standard deviation), "caffe"
            (ImageNet's mean alone) or "tf" (from -1 to 1), the last three as keras.applications names
            them, in the order red, green, blue; or ``(mean, std)``, each of three numbers on the 0-255
            scale. None for CIFAR-10's, or ImageNet's with an "imagenet" stem.
        stride_in: unit of a stage that halves the picture: "first"; or "last", for the stage after
            (keras.applications' ResNetV2), with a subsampled shortcut.
        conv_bias: whether convolutions that no BN follows have a bias.
        activated_shortcuts: which shortcuts of pre-activation networks start from the activation before
            the branch: "first_and_projections" (the paper), "projections" (timm) or "none".
        include_top: whether the classifier is part of the model.
        weights: None (random), the path of a weight file of this architecture, or a dictionary from
            ``<layer>/<variable>`` to an array, as `keras_resv2.pretrained.weight_file.read_weights` gives it.
        input_tensor: Keras tensor to use as the input.
        input_shape: shape of one picture, ``(height, width, 3)`` in channels_last. By default the
            dataset's with the classifier, any size without.
        pooling: without the classifier, None (feature maps), "avg" or "max".
        classes: of the classifier; by default 10 (CIFAR stem) or 1000.
        classifier_activation: of the classifier; None for logits.
        include_preprocessing: whether the model takes raw pixels from 0 to 255 and normalises them
            itself.
        rolled: whether the units of a stage after its first are one layer that runs a loop over
            stacked weights (`keras_resv2.rolled`): deep networks build and compile in the time of
            shallow ones. Weight files and outputs are the same.
        rematerialize: of a rolled network, whether the way back computes again what the units' insides
            were, so that a step needs memory for one unit at a time.
        dtype: Keras dtype policy, as "mixed_bfloat16"; None for the global one. The classifier's
            output is float32 in any case. To train in "mixed_float16", which needs its loss scaled, set the
            global one (`keras.config.set_dtype_policy`), or compile with
            `keras.optimizers.LossScaleOptimizer`: Keras does it by itself for the global one alone.
        name: of the model.

    Returns:
        A functional `keras.Model` from pixels ``(batch, height, width, 3)`` to
        ``(batch, classes)``; without the classifier to ``(batch, h, w, channels)`` or, with
        pooling, ``(batch, channels)``.

    Raises:
        ValueError: an argument is none of the choices, or the choices make no network; or the weights
            are damaged or of another network.
        FileNotFoundError: there is no such weight file.

    Example:

    >>> model = ResNet(110, activation="full_preactivation", shortcut="exclusive_gating(bias=-6)")
    >>> model.output_shape
    (None, 10)
    """
    structure = (preprocessing, stride_in, conv_bias, activated_shortcuts)
    layout, spec = resolve_network(depth, activation, shortcut, branch, projection, stride_on, stem, *structure)
    stem = STEMS[layout.stem]
    classes = _check_head(include_top, pooling, classes, stem)
    data_format = keras.config.image_data_format()
    inputs = _input(input_tensor, input_shape, include_top, include_preprocessing, layout, data_format)
    if rematerialize and not rolled:
        raise ValueError("rematerialize=True is for rolled networks: build with rolled=True too.")
    values = _values(weights)
    layers = Layers(dtype, data_format, values)
    with deep_graph():
        x = _preprocess(inputs, *layout.pixels, data_format) if include_preprocessing else inputs
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
        model = keras.Model(inputs, x, name=name or _default_name(depth, activation))
    if weights is not None:
        from keras_resv2.pretrained.weight_file import fitting

        fitting(model, values, "weights" if isinstance(weights, dict) else weights)
    return model


def _values(weights):
    """What weights start from, by name."""
    if weights is None or isinstance(weights, dict):
        return weights or {}
    from keras_resv2.pretrained.weight_file import read_weights  # it knows files, not networks

    return read_weights(weights)


def body(x, layout, spec, layers, rolled=False, rematerialize=False):
    """All of a network between preprocessing and head.

    Args:
        x: Keras tensor of normalised pixels.
        layout, spec: of `keras_resv2.layouts.resolve_network`.
        layers: `Layers`.
        rolled, rematerialize: as `ResNet` takes them.

    Returns:
        Keras tensor: feature maps.
    """
    x = _stem(x, STEMS[layout.stem], layout.widths[0], spec, layers)
    for number, width in enumerate(layout.widths, start=1):
        stage, strides = f"stage{number}", layout.strides(number)
        x = residual_unit(x, width, strides[0], spec, layers, f"{stage}_unit1", first=number == 1)
        done, alike = 1, strides[1:].count(1)
        if rolled and alike > 1:
            x = rolled_units(x, width, alike, spec, layers, stage, 2, rematerialize)
            done += alike
        for unit in range(done, len(strides)):
            x = residual_unit(x, width, strides[unit], spec, layers, f"{stage}_unit{unit + 1}")
    return layers.activate(x, spec.activation.before_branch, "head")


def features(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """The same network with the output of each stage, for detection and segmentation heads.

    Weights are shared with `model`, not copied.

    Args:
        model: a network of this package, with or without its classifier.
        names: the outputs wanted: "stem", "stage1", "stage2", ..., and in pre-activation networks
            "head" (the last stage after its final BN and ReLU). None for all stages.

    Returns:
        A `keras.Model` that gives a dictionary from each name to feature maps
        ``(batch, h, w, channels)``. In pre-activation networks stages end with the addition: a
        head that reads them starts with BN and ReLU.

    Raises:
        ValueError: the model has no stages, or none of that name.

    Example:

    >>> backbone = features(ResNet(50, include_top=False))
    >>> list(backbone.output)
    ['stage1', 'stage2', 'stage3', 'stage4']
    """
    outputs = {}
    for layer in model.layers:  # in topological order: the last layer of a stage wins
        group = layer.name.split("_")[0]
        if re.fullmatch(r"stem|stage\d+|head", group) and layer.name not in ("head_pool", "head_dense"):
            outputs[group] = layer.output
    stages = [name for name in outputs if name.startswith("stage")]
    if not stages:
        raise ValueError(f"model {model.name!r} has no layers named stage1_..., as those of keras_resv2 have.")
    chosen = stages if names is None else [check_choice("name", name, list(outputs)) for name in names]
    with deep_graph():
        return keras.Model(model.input, {name: outputs[name] for name in chosen}, name=f"{model.name}_features")


def _check_head(include_top, pooling, classes, stem):
    if pooling is not None:
        check_choice("pooling", pooling, ("avg", "max"))
    classes = stem.dataset.classes if classes is None else classes
    return check_count("classes", classes) if include_top else classes


def _input(input_tensor, input_shape, include_top, include_preprocessing, layout, data_format):
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    elif input_shape is not None:
        shape = tuple(input_shape)
    else:
        height, width, _ = STEMS[layout.stem].dataset.image_shape if include_top else (None, None, 3)
        shape = (height, width, 3) if data_format == "channels_last" else (3, height, width)
    if len(shape) != 3:
        raise ValueError(f"input_shape={shape} must have three entries: height, width and 3 channels.")
    channels = shape[-1] if data_format == "channels_last" else shape[0]
    if channels != 3 and (include_preprocessing or channels is None):
        raise ValueError(
            f"input_shape={shape} must have three channels ({data_format}): repeat a grey image three times, "
            "or build with include_preprocessing=False."
        )
    sides = shape[:2] if data_format == "channels_last" else shape[1:]
    stem = STEMS[layout.stem]
    smallest = stem.strides * (2 if stem.pool else 1) * 2 ** (len(layout.units) - 1)
    if any(side is not None and side < smallest for side in sides):
        raise ValueError(
            f"input_shape={shape} is too small: the {layout.stem} stem and {len(layout.units)} stages divide height "
            f"and width by {smallest}, so each must be at least {smallest}"
            + (", or build with stem='cifar'." if layout.stem != "cifar" else ".")
        )
    return keras.Input(shape, name="pixels") if input_tensor is None else input_tensor


def _preprocess(x, mean, std, data_format):
    """(pixels - mean) / std, in float32 whatever the policy."""
    scale = [1 / deviation for deviation in std]
    offset = [-value / deviation for value, deviation in zip(mean, std, strict=True)]
    if data_format == "channels_first":
        scale, offset = ([[[value]] for value in values] for values in (scale, offset))
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(x)


def _stem(x, stem, filters, spec, layers):
    """The first convolution. Most pre-activation networks have its BN and ReLU in their first unit."""
    activate = stem.activate or not spec.activation.before_branch
    x = layers.conv(x, filters, stem.kernel_size, stem.strides, "stem_conv", bias=spec.conv_bias and not activate)
    if activate:
        x = layers.activate(x, ("bn", "relu"), "stem")
    if not stem.pool:
        return x
    if activate or stem.pool_zeros:  # zeros outside the picture change no maximum after a ReLU
        return layers.max_pool(layers.zero_padding(x, 1, "stem_pool_pad"), 3, 2, "stem_pool")
    # Values may be negative, so nothing may be padded: windows cut at the border, then every second.
    x = layers.max_pool(x, 3, 1, "stem_pool", padding="same")
    return layers.subsample(x, 2, "stem_pool_subsample")


def _default_name(depth, activation):
    if activation == "full_preactivation":
        return f"preact_resnet{depth}"
    return f"resnet{depth}" if activation == "original" else f"resnet{depth}_{activation}"
