"""The parts of a network: preprocessing, stem, stages of residual units.

Weight files, model surgery and converters rely on these layer names (S: stage from 1, U: unit from 1, K: convolution of
the branch from 1; each network has a subset):

| layer | name |
| --- | --- |
| input | `pixels` |
| pixels to normalized input | `preprocessing` |
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

Explicit padding before a strided convolution or a pooling has the layer's name with the suffix `_pad`. In a rolled
network units 2 to 9 of a stage are one layer, `stageS_unit2_to_9`.
"""

from typing import Any

import keras

from keras_resv2.models.blocks import residual_unit
from keras_resv2.models.config import STEMS
from keras_resv2.models.scan import rolled_units


def body(x, layout, spec, layers, rolled=False, rematerialize=False):
    """Builds everything between preprocessing and head.

    Args:
        x: Keras tensor of normalized pixels.
        layout, spec: see `keras_resv2.models.config.resolve_network`.
        layers: `LayerFactory`.
        rolled, rematerialize: see `ResNet`.

    Returns:
        Keras tensor: feature maps.
    """
    x = _stem(x, STEMS[layout.stem], layout.widths[0], spec, layers)
    for number, width in enumerate(layout.widths, start=1):
        stage, (strides, dilations) = f"stage{number}", layout.geometry(number)
        x = residual_unit(x, width, strides[0], spec, layers, f"{stage}_unit1", number == 1, dilations[0])
        done, alike = 1, strides[1:].count(1)
        if rolled and alike > 1:
            x = rolled_units(x, width, alike, spec, layers, stage, 2, rematerialize, dilations[-1][-1])
            done += alike
        for unit in range(done, len(strides)):
            name = f"{stage}_unit{unit + 1}"
            x = residual_unit(x, width, strides[unit], spec, layers, name, dilation=dilations[unit])
    return layers.activate(x, spec.activation.before_branch, "head")


def preprocess(x, mean, std, data_format):
    """Computes (pixels - mean) / std, in float32 whatever the policy.

    The constants have all three axes of an image, because Keras moves those of one axis as the global data format
    demands when the layer is called.
    """
    scale = [1 / deviation for deviation in std]
    offset = [-value / deviation for value, deviation in zip(mean, std, strict=True)]
    if data_format == "channels_first":
        scale, offset = ([[[value]] for value in values] for values in (scale, offset))
    else:
        scale, offset = ([[values]] for values in (scale, offset))
    constants: dict[str, Any] = {"scale": scale, "offset": offset}
    return keras.layers.Rescaling(**constants, dtype="float32", name="preprocessing")(x)


def _stem(x, stem, filters, spec, layers):
    """The first convolution. Pre-activation networks have its BN and ReLU in their first unit."""
    activate = stem.activate or not spec.activation.before_branch
    x = layers.conv(x, filters, stem.kernel_size, stem.strides, "stem_conv", bias=spec.conv_bias and not activate)
    if activate:
        x = layers.activate(x, ("bn", "relu"), "stem")
    if not stem.pool:
        return x
    if activate or stem.pool_zeros:  # after a ReLU, zero padding does not change the maximum
        return layers.max_pool(layers.zero_padding(x, 1, "stem_pool_pad"), 3, 2, "stem_pool")
    # Values may be negative, so the input must not be padded: pool with windows cut at the border, then subsample.
    x = layers.max_pool(x, 3, 1, "stem_pool", padding="same")
    return layers.subsample(x, 2, "stem_pool_subsample")
