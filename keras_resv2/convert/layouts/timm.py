"""timm's pre-activation networks with batch normalization: `resnetv2_18` to `resnetv2_152`.

| ours | theirs |
| --- | --- |
| `stem_conv` | `stem.conv` |
| `stage2_unit3_preact_bn`, `_bn1`, `_bn2` | `stages.1.blocks.2.norm1`, `.norm2`, `.norm3` |
| `stage2_unit3_conv1`, ... | `stages.1.blocks.2.conv1`, ... |
| `stage2_unit1_shortcut_conv` | `stages.1.blocks.0.downsample.conv` |
| `head_bn` | `norm` |
| `head_dense` | `head.fc`, a 1x1 convolution |

In those of basic units (18, 34) the first unit's shortcut starts from the stem, not from its activation.
"""

from keras_resv2.convert.layouts.pytorch import PyTorchLayout

FIXED = {"stem_conv": "stem.conv", "head_bn": "norm", "head_dense": "head.fc"}
UNIT = {"shortcut_conv": "downsample.conv", "preact_bn": "norm1", "bn1": "norm2", "bn2": "norm3"}


LAYOUT = PyTorchLayout(
    name="timm",
    activation="full_preactivation",
    fixed=FIXED,
    unit=UNIT,
    block="stages.{stage_index}.blocks.{unit_index}",
    marks=("stages.0.blocks.0.norm1.weight",),
    structure={"activated_shortcuts": "projections", "stride_on": "3x3"},
    allowed={
        "projection": ("B",),
        "stride_on": ("3x3",),
        "stride_in": ("first",),
        "stem": ("imagenet",),
        "activated_shortcuts": ("projections",),
    },
    pixels="ImageNet's mean and standard deviation, as timm's default is (its resnetv2_50.a1h_in1k and some others: "
    "preprocessing='tf')",
    dense_as_conv=True,
)
