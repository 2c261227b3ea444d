"""pytorchcv (osmr/imgclsmob): `resnet20_cifar10` to `resnet1202_svhn`, `resnet18` to `resnet200b`, and `preresnet*`.

| ours | theirs, ResNet | theirs, PreResNet |
| --- | --- | --- |
| `stem_conv`, CIFAR | `features.init_block.conv` | `features.init_block` |
| `stem_bn`, CIFAR | `features.init_block.bn` | |
| `stem_conv`, ImageNet | `features.init_block.conv.conv` | `features.init_block.conv` |
| `stem_bn`, ImageNet | `features.init_block.conv.bn` | `features.init_block.bn` |
| `stage2_unit3_preact_bn` | | `features.stage2.unit3.body.conv1.bn` |
| `stage2_unit3_convK` | `features.stage2.unit3.body.convK.conv` | the same |
| `stage2_unit3_bnK` | `features.stage2.unit3.body.convK.bn` | `features.stage2.unit3.body.conv<K+1>.bn` |
| `stage2_unit1_shortcut_conv` | `features.stage2.unit1.identity_conv.conv` | `features.stage2.unit1.identity_conv` |
| `stage2_unit1_shortcut_bn` | `features.stage2.unit1.identity_conv.bn` | |
| `head_bn` | | `features.post_activ.bn` |
| `head_dense` | `output` | `output` |

ImageNet networks take the stride on the first 1x1 convolution, those called `resnet50b` and the like on the 3x3
convolution; their tensors have the same names. CIFAR networks take it on the 3x3 convolution. ImageNet PreResNets have
BN and ReLU after the stem's convolution, and again before their first unit.

tf2cv, by the same author, has the same names with `/` (`keras_resv2.convert.layouts.tf2cv`).
"""

import dataclasses
import pathlib
import re

from keras_resv2.convert.layouts.pytorch import PyTorchLayout

UNIT = {f"{kind}{number}": f"body.conv{number}.{kind}" for number in (1, 2, 3) for kind in ("conv", "bn")}
ORIGINAL = {**UNIT, "shortcut_conv": "identity_conv.conv", "shortcut_bn": "identity_conv.bn"}
PREACTIVATED = {
    **UNIT,
    "preact_bn": "body.conv1.bn",
    "bn1": "body.conv2.bn",
    "bn2": "body.conv3.bn",
    "shortcut_conv": "identity_conv",
}
# Pixel statistics of the author's training code, from 0 to 255.
CIFAR_PIXELS = ((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255))
BLOCK = "features.stage{stage}.unit{unit}"
FIRST_UNIT = "features.stage1.unit1.body.conv1.conv.weight"


def stride_of_name(names, label):
    """Which convolution of an ImageNet bottleneck takes the stride, by the name of the file: "resnet50b-..." or not.

    Args:
        names: of the tensors.
        label: path of the file.

    Returns:
        Arguments of `ResNet`.

    Example:

    >>> stride_of_name([], "weights/resnet50b-0599.pth"), stride_of_name([], "weights/resnet50-0633.pth")
    ({'stride_on': '3x3'}, {'stride_on': '1x1'})
    """
    return {"stride_on": "3x3" if re.search(r"resnet\d+b(?![a-z])", pathlib.PurePath(label).name) else "1x1"}


CIFAR = PyTorchLayout(
    name="pytorchcv",
    activation="original",
    fixed={"stem_conv": "features.init_block.conv", "stem_bn": "features.init_block.bn", "head_dense": "output"},
    unit=ORIGINAL,
    block=BLOCK,
    marks=("features.init_block.bn.weight", FIRST_UNIT),
    stem_kernel=3,
    structure={"stride_on": "3x3", "preprocessing": CIFAR_PIXELS},
    allowed={"projection": ("B",), "stride_on": ("3x3",), "stride_in": ("first",), "stem": ("cifar",)},
    pixels="the statistics that pytorchcv's CIFAR networks are trained with",
)
IMAGENET = dataclasses.replace(
    CIFAR,
    fixed={**CIFAR.fixed, "stem_conv": "features.init_block.conv.conv", "stem_bn": "features.init_block.conv.bn"},
    marks=("features.init_block.conv.bn.weight", FIRST_UNIT),
    stem_kernel=7,
    structure={},
    by_source=stride_of_name,
    allowed={"projection": ("B",), "stride_in": ("first",), "stem": ("imagenet",)},
    pixels="ImageNet's mean and standard deviation",
)
CIFAR_PREACTIVATED = dataclasses.replace(
    CIFAR,
    activation="full_preactivation",
    fixed={"stem_conv": "features.init_block", "head_bn": "features.post_activ.bn", "head_dense": "output"},
    unit=PREACTIVATED,
    marks=("features.post_activ.bn.weight", FIRST_UNIT),
    structure={**CIFAR.structure, "activated_shortcuts": "projections"},
    allowed={**CIFAR.allowed, "activated_shortcuts": ("projections",)},
)
IMAGENET_PREACTIVATED = dataclasses.replace(
    IMAGENET,
    activation="full_preactivation",
    fixed={
        **CIFAR_PREACTIVATED.fixed,
        "stem_conv": "features.init_block.conv",
        "stem_bn": "features.init_block.bn",
    },
    unit=PREACTIVATED,
    marks=("features.post_activ.bn.weight", FIRST_UNIT),
    structure={"stem": "imagenet_activated", "activated_shortcuts": "projections"},
    allowed={**IMAGENET.allowed, "stem": ("imagenet_activated",), "activated_shortcuts": ("projections",)},
)
LAYOUTS = (IMAGENET_PREACTIVATED, CIFAR_PREACTIVATED, IMAGENET, CIFAR)
