"""torchvision's `resnet18` to `resnet152`; timm's networks of the same names have the same tensors.

| ours | theirs |
| --- | --- |
| `stem_conv`, `stem_bn` | `conv1`, `bn1` |
| `stage2_unit3_conv1`, `_bn1`, ... | `layer2.2.conv1`, `.bn1`, ... |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `layer2.0.downsample.0`, `.1` |
| `head_dense` | `fc` |
"""

from keras_resv2.convert.layouts.pytorch import PyTorchLayout

FIXED = {"stem_conv": "conv1", "stem_bn": "bn1", "head_dense": "fc"}
SHORTCUT = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}


LAYOUT = PyTorchLayout(
    name="torchvision",
    activation="original",
    fixed=FIXED,
    unit=SHORTCUT,
    marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.0.conv1.weight"),
    stem_kernel=7,
    # CIFAR code with this stem has other names: it is read by the layout "cifar".
    check=lambda tensors: "linear.weight" not in tensors and not any(".shortcut." in name for name in tensors),
    structure={"stride_on": "3x3"},
    pixels="ImageNet's mean and standard deviation",
    allowed={"projection": ("B",), "stride_on": ("3x3",), "stride_in": ("first",), "stem": ("imagenet",)},
)
