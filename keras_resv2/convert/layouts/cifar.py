"""The names that most CIFAR code for PyTorch has, original and pre-activation.

| ours | theirs, original | theirs, pre-activation |
| --- | --- | --- |
| `stem_conv` | `conv1` | `conv1` |
| `stem_bn` | `bn1` | |
| `stage2_unit3_preact_bn` | | `layer2.2.bn1` |
| `stage2_unit3_convK` | `layer2.2.convK` | `layer2.2.convK` |
| `stage2_unit3_bnK` | `layer2.2.bnK` | `layer2.2.bn<K+1>` |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `layer2.0.shortcut.0`, `.1` | `layer2.0.shortcut.0` |
| `head_bn` | | `bn` |
| `head_dense` | `linear` | `linear` |

Other code has other names, which are read too: `downsample` for `shortcut`; `fc` or `classifier` for `linear`;
`conv_1`, `conv_1_3x3` or `conv` for `conv1`; `bn_1` or `bn` for `bn1`; `stage_1` or `stage1` for `layer1`; and in a
unit `conv_1`, `bn_1` or `conv_a`, `bn_a` for `conv1`, `bn1`.

A file says nothing of strides, of how option A makes its channels, of which activation a shortcut starts from, or of
the pixels: `keras_resv2.convert.assumptions`.
"""

import dataclasses

from keras_resv2.convert.layouts.pytorch import PyTorchLayout
from keras_resv2.models.config import STEMS

FIXED = {"stem_conv": "conv1", "stem_bn": "bn1", "head_bn": "bn", "head_dense": "linear"}
UNIT = {"shortcut_conv": "shortcut.0", "shortcut_bn": "shortcut.1"}
PREACTIVATION = {**UNIT, "preact_bn": "bn1", "bn1": "bn2", "bn2": "bn3"}
SPELLINGS = (
    (r"^(fc|classifier)\.", "linear."),
    (r"\.downsample\.", ".shortcut."),
    (r"^(conv_1|conv_1_3x3|conv)\.", "conv1."),
    (r"^bn_1\.", "bn1."),
    (r"^stage_?(\d+)\.", r"layer\1."),
    (r"^(layer\d+\.\d+\.)(conv|bn)_(\d)\.", r"\1\2\3."),
    (r"^(layer\d+\.\d+\.)(conv|bn)_a\.", r"\1\g<2>1."),
    (r"^(layer\d+\.\d+\.)(conv|bn)_b\.", r"\1\g<2>2."),
    (r"^(bn_final|final_bn|bn_last|last_bn|norm)\.", "bn."),
)
FIRST_NAMES = tuple(f"{name}.weight" for name in ("conv1", "conv_1", "conv_1_3x3", "conv"))


def activated_shortcuts(names, label=""):
    """Which shortcuts start from the unit's first activation, as code that spells its modules so has it.

    Code that follows kuangliu's says `shortcut` and `linear`: its 1x1 shortcuts do. Code that follows torchvision's
    and bearpaw's says `downsample` and `fc`: none does.

    Args:
        names: of the tensors.
        label: what the file is called.

    Returns:
        Arguments of `ResNet`.

    Example:

    >>> activated_shortcuts(["layer2.0.downsample.0.weight", "linear.weight"])
    {'activated_shortcuts': 'none'}
    """
    words = {word for name in names for word in name.split(".")}
    after = "downsample" in words or ("shortcut" not in words and "fc" in words)
    return {"activated_shortcuts": "none" if after else "projections"}


def zero_channels(names, label=""):
    """Where option A puts its zero channels, as code that spells its modules so has it.

    D-X-Y's code, which says `conv_1_3x3` and `conv_a`, appends them; code without such a habit is assumed to have them
    on both sides.

    Args:
        names: of the tensors.
        label: what the file is called.

    Returns:
        Arguments of `keras_resv2.convert.detect`.

    Example:

    >>> zero_channels(["conv_1_3x3.weight", "stage_1.0.conv_a.weight"])
    {'zero_channels': 'after'}
    """
    words = {word for name in names for word in name.split(".")}
    return {"zero_channels": "after"} if words & {"conv_1_3x3", "conv_a"} else {}


ORIGINAL = PyTorchLayout(
    name="cifar",
    activation="original",
    fixed=FIXED,
    unit=UNIT,
    marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"),
    spellings=SPELLINGS,
    structure={"stride_on": "3x3"},
    by_source=zero_channels,
    first_names=FIRST_NAMES,
)
PREACTIVATED = dataclasses.replace(
    ORIGINAL,
    name="cifar_preactivation",
    activation="full_preactivation",
    unit=PREACTIVATION,
    marks=("conv1.weight", "bn.running_mean", "layer1.0.conv1.weight"),
    by_source=activated_shortcuts,
    allowed={"stem": tuple(name for name, stem in STEMS.items() if not stem.activate)},
)
# Original networks whose first batch normalization is called `bn`, as the last of pre-activation networks is.
UNNUMBERED = dataclasses.replace(
    ORIGINAL,
    spellings=(*SPELLINGS, (r"^bn\.", "bn1.")),
    check=lambda tensors: tensors["bn1.running_mean"].shape == tensors["conv1.weight"].shape[:1],
)
LAYOUTS = (ORIGINAL, UNNUMBERED, PREACTIVATED)
# Pre-activation code without the BN after the last addition, as kuangliu's PreActResNet18.
MARKS_WITHOUT_LAST_BN = ("conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv1.weight")
