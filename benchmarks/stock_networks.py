"""The networks of this package, written with Keras' own layers and without the additions of this package.

Layers have the same names as those of the package, so that weights can be compared by name.
"""

import sys

import keras
from keras import layers, ops

from keras_resv2.argument_checks import check_choice
from keras_resv2.models.blocks import STRIDE_ON
from keras_resv2.models.config import STEMS, resolve_network
from keras_resv2.models.graph import RECURSION_LIMIT


def residual_network(depth, activation="original", width=1):
    """Builds ResNet-v1 or ResNet-v2 from raw pixels to probabilities, with the paper's shortcuts.

    Args:
        depth: number of weighted layers, see `keras_resv2.ResNet`.
        activation: "original" (v1) or "full_preactivation" (v2).
        width: widening factor, see `keras_resv2.ResNet`.

    Returns:
        `keras.Model`, channels_last.

    Raises:
        ValueError: if there is no such network.

    Example:

    >>> residual_network(20).output_shape
    (None, 10)
    """
    check_choice("activation", activation, ("original", "full_preactivation"))
    layout, spec = resolve_network(depth, activation, width=width)
    stem, preactivation = STEMS[layout.stem], activation == "full_preactivation"
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    pixels = keras.Input(stem.dataset.image_shape)
    mean, std = stem.dataset.pixels
    scale, offset = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    x = layers.Rescaling(scale, offset, dtype="float32")(pixels)
    x = convolution(x, layout.widths[0], stem.kernel_size, stem.strides, "stem_conv")
    if not preactivation:
        x = layers.ReLU()(batch_norm(x, "stem_bn"))
    if stem.pool:  # aligned as in the paper's code; "same" with stride 2 is off by one pixel
        x = layers.MaxPooling2D(3, strides=1, padding="same")(x)[:, ::2, ::2]
    for stage, (count, width) in enumerate(zip(layout.units, layout.widths, strict=True), start=1):
        for number in range(1, count + 1):
            strides = 2 if number == 1 and stage > 1 else 1
            share = preactivation and stage == number == 1
            x = _unit(x, width, strides, spec, preactivation, share, f"stage{stage}_unit{number}")
    if preactivation:
        x = layers.ReLU()(batch_norm(x, "head_bn"))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(stem.dataset.classes, "softmax", dtype="float32", name="head_dense")(x))


def _unit(x, width, strides, spec, preactivation, share, name):
    activated = layers.ReLU()(batch_norm(x, f"{name}_preact_bn")) if preactivation else x
    y, depth = activated, len(spec.branch.kernel_sizes)
    strided = STRIDE_ON[spec.stride_on] if depth == 3 else 0
    for i, (size, factor) in enumerate(zip(spec.branch.kernel_sizes, spec.branch.width_factors, strict=True)):
        y = convolution(y, width * factor, size, strides if i == strided else 1, f"{name}_conv{i + 1}")
        if i + 1 < depth or not preactivation:
            y = batch_norm(y, f"{name}_bn{i + 1}")
        if i + 1 < depth:
            y = layers.ReLU()(y)
    missing = y.shape[-1] - x.shape[-1]
    if spec.projects(strides > 1 or missing > 0):
        x = convolution(activated, y.shape[-1], 1, strides, f"{name}_shortcut_conv")
        x = x if preactivation else batch_norm(x, f"{name}_shortcut_bn")
    else:
        x = activated if share else x
        x = x[:, ::strides, ::strides] if strides > 1 else x
        x = ops.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))) if missing else x
    y = layers.Add()([x, y])
    return y if preactivation else layers.ReLU()(y)


def convolution(x, filters, kernel_size, strides, name):
    """Convolution without bias, with the same padding on all sides."""
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2)(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)


def batch_norm(x, name):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
