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

Files that say `downsample` for `shortcut`, or `fc` or `classifier` for `linear`, are read too. A file says
nothing of strides, of how option A makes its channels, of which activation a shortcut starts from, or of the pixels:
`keras_resv2.convert.assumptions`.
"""

from keras_resv2.convert.layouts.pytorch import PyTorchLayout
from keras_resv2.models.config import STEMS

FIXED = {"stem_conv": "conv1", "stem_bn": "bn1", "head_bn": "bn", "head_dense": "linear"}
UNIT = {"shortcut_conv": "shortcut.0", "shortcut_bn": "shortcut.1"}
PREACTIVATION = {**UNIT, "preact_bn": "bn1", "bn1": "bn2", "bn2": "bn3"}
SPELLINGS = (
    (r"^(fc|classifier)\.", "linear."),
    (r"\.downsample\.", ".shortcut."),
    (r"^(bn_final|final_bn|bn_last|last_bn|norm)\.", "bn."),
)


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


ORIGINAL = PyTorchLayout(
    name="cifar",
    activation="original",
    fixed=FIXED,
    unit=UNIT,
    marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"),
    spellings=SPELLINGS,
    structure={"stride_on": "3x3"},
)
PREACTIVATED = PyTorchLayout(
    name="cifar_preactivation",
    activation="full_preactivation",
    fixed=FIXED,
    unit=PREACTIVATION,
    marks=("conv1.weight", "bn.running_mean", "layer1.0.conv1.weight"),
    spellings=SPELLINGS,
    structure={"stride_on": "3x3"},
    by_source=activated_shortcuts,
    allowed={"stem": tuple(name for name, stem in STEMS.items() if not stem.activate)},
)
# Pre-activation code without the BN after the last addition, as kuangliu's PreActResNet18.
MARKS_WITHOUT_LAST_BN = ("conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv1.weight")
