"""KerasHub's `ResNetBackbone` and `ResNetImageClassifier`: ResNet-18 to 152, and with `use_pre_activation`.

| ours | theirs |
| --- | --- |
| `stem_conv`, `stem_bn` | `conv1_conv`, `conv1_bn` |
| `stage2_unit3_preact_bn` | `stack1_block2_pre_activation_bn` |
| `stage2_unit3_convK`, `_bnK` | `stack1_block2_K_conv`, `_K_bn` |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `stack1_block0_0_conv`, `_0_bn` |
| `head_bn` | `post_bn` |
| `head_dense` | `predictions`, outside of the backbone |

Not `_vd`: three convolutions in the stem, and average pooling before the projections. With one convolution in the stem,
bottlenecks of `_vd` have the tensors of plain ones, so the configuration of a saved model is checked too.

Bottlenecks take the stride on the 3x3 convolution. Of pre-activation networks 1x1 shortcuts, and no others, start from
the unit's first activation, as in timm, whose weights KerasHub's presets are.
"""

import dataclasses
import re

from keras_resv2.convert.layouts.keras import KerasLayout

FIXED = {"stem_conv": "conv1_conv", "stem_bn": "conv1_bn", "head_bn": "post_bn", "head_dense": "predictions"}
UNIT = {"preact_bn": "pre_activation_bn", "shortcut_conv": "0_conv", "shortcut_bn": "0_bn"}
PIXELS = "ImageNet's mean and standard deviation, as most of KerasHub's presets are"
STRIDES = [1, 2, 2, 2]


def layer(name):
    """Layer of theirs for one of ours."""
    if name in FIXED:
        return FIXED[name]
    stage, unit, rest = name.split("_", 2)
    rest = UNIT.get(rest) or re.sub(r"(conv|bn)(\d)", r"\2_\1", rest)
    return f"stack{int(stage[5:]) - 1}_block{int(unit[4:]) - 1}_{rest}"


def check_config(config, label):
    """Refuses a saved model whose units or strides are not built here, although its tensors may fit.

    Args:
        config: its configuration, as JSON gives it.
        label: what to call the source in a message.

    Raises:
        ValueError: if its block type is one of `_vd`, or its stages have other strides.
    """
    if isinstance(config, dict) and config.get("class_name") != "ResNetBackbone":  # a classifier
        config = config.get("config", {}).get("backbone") if isinstance(config.get("config", {}), dict) else None
    arguments = config.get("config") if isinstance(config, dict) else None
    if not isinstance(arguments, dict):
        return
    block, strides = arguments.get("block_type"), arguments.get("stackwise_num_strides")
    if isinstance(block, str) and block.endswith("_vd"):
        raise ValueError(
            f"{label} has units of KerasHub's block_type={block!r}, which average before their projections "
            "(`resnet_vd` networks): no such networks are read."
        )
    if isinstance(strides, list) and strides != STRIDES:
        raise ValueError(f"{label} has stackwise_num_strides={strides}: only networks with {STRIDES} are read.")


V1 = KerasLayout(
    name="KerasHub ResNet",
    activation="original",
    marks=("conv1_bn/gamma", "stack0_block0_1_conv/kernel"),
    layer=layer,
    structure={"stride_on": "3x3"},
    pixels=PIXELS,
    outer_classifier=True,
    check_config=check_config,
)
V2 = dataclasses.replace(
    V1,
    name="KerasHub ResNetV2",
    activation="full_preactivation",
    marks=("post_bn/gamma", "stack0_block0_pre_activation_bn/gamma"),
    structure={"stride_on": "3x3", "activated_shortcuts": "projections"},
)
