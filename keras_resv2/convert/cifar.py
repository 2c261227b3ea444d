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
nothing of strides, of which activation a shortcut starts from, or of the pixels: `unsaid` has what is assumed.
"""

from keras_resv2.convert.pytorch import PyTorchLayout

FIXED = {"stem_conv": "conv1", "stem_bn": "bn1", "head_bn": "bn", "head_dense": "linear"}
UNIT = {"shortcut_conv": "shortcut.0", "shortcut_bn": "shortcut.1"}
PREACTIVATION = {**UNIT, "preact_bn": "bn1", "bn1": "bn2", "bn2": "bn3"}
SPELLINGS = (
    (r"^(fc|classifier)\.", "linear."),
    (r"\.downsample\.", ".shortcut."),
    (r"^(bn_final|final_bn|bn_last|last_bn|norm)\.", "bn."),
)
PIXELS = "that pixels are normalised as this package's CIFAR-10 networks have it (else: preprocessing=(mean, std))"
STRIDE = "that bottlenecks take the stride on the 3x3 convolution (else: stride_on='1x1')"


ORIGINAL = PyTorchLayout(
    name="cifar",
    activation="original",
    fixed=FIXED,
    unit=UNIT,
    marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"),
    spellings=SPELLINGS,
    structure={"stride_on": "3x3"},
    unsaid={"preprocessing": PIXELS, "stride_on": STRIDE},
)
PREACTIVATED = PyTorchLayout(
    name="cifar_preactivation",
    activation="full_preactivation",
    fixed=FIXED,
    unit=PREACTIVATION,
    marks=("conv1.weight", "bn.running_mean", "layer1.0.conv1.weight"),
    spellings=SPELLINGS,
    structure={"stride_on": "3x3", "activated_shortcuts": "projections"},
    unsaid={
        "preprocessing": PIXELS,
        "stride_on": STRIDE,
        "activated_shortcuts": "that 1x1 shortcuts, and no others, start from the unit's first activation "
        "(else: activated_shortcuts='none' or 'first_and_projections')",
    },
)
# Pre-activation code without the BN after the last addition, as kuangliu's PreActResNet18.
MARKS_WITHOUT_LAST_BN = ("conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv1.weight")
