"""KerasHub's `ResNetBackbone` and `ResNetImageClassifier`: ResNet-18 to 152, and with `use_pre_activation`.

| ours | theirs |
| --- | --- |
| `stem_conv`, `stem_bn` | `conv1_conv`, `conv1_bn` |
| `stage2_unit3_preact_bn` | `stack1_block2_pre_activation_bn` |
| `stage2_unit3_convK`, `_bnK` | `stack1_block2_K_conv`, `_K_bn` |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `stack1_block0_0_conv`, `_0_bn` |
| `head_bn` | `post_bn` |
| `head_dense` | `predictions`, outside of the backbone |

Bottlenecks take the stride on the 3x3 convolution. Of pre-activation networks 1x1 shortcuts, and no others, start from
the unit's first activation, as in timm, whose weights KerasHub's presets are.
"""

import re

from keras_resv2.convert.layouts.keras import KerasLayout

FIXED = {"stem_conv": "conv1_conv", "stem_bn": "conv1_bn", "head_bn": "post_bn", "head_dense": "predictions"}
UNIT = {"preact_bn": "pre_activation_bn", "shortcut_conv": "0_conv", "shortcut_bn": "0_bn"}
PIXELS = "ImageNet's mean and standard deviation, as most of KerasHub's presets are"


def layer(name):
    """Layer of theirs for one of ours."""
    if name in FIXED:
        return FIXED[name]
    stage, unit, rest = name.split("_", 2)
    rest = UNIT.get(rest) or re.sub(r"(conv|bn)(\d)", r"\2_\1", rest)
    return f"stack{int(stage[5:]) - 1}_block{int(unit[4:]) - 1}_{rest}"


V1 = KerasLayout(
    name="KerasHub ResNet",
    activation="original",
    marks=("conv1_bn/gamma", "stack0_block0_1_conv/kernel"),
    layer=layer,
    structure={"stride_on": "3x3"},
    pixels=PIXELS,
    outer_classifier=True,
)
V2 = KerasLayout(
    name="KerasHub ResNetV2",
    activation="full_preactivation",
    marks=("post_bn/gamma", "stack0_block0_pre_activation_bn/gamma"),
    layer=layer,
    structure={"stride_on": "3x3", "activated_shortcuts": "projections"},
    pixels=PIXELS,
    outer_classifier=True,
)
