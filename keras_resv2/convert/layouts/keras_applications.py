"""keras.applications' `ResNet50`, `101`, `152` and `ResNet50V2`, `101V2`, `152V2`.

| ours | theirs, ResNet50 | theirs, ResNet50V2 |
| --- | --- | --- |
| `stem_conv`, `stem_bn` | `conv1_conv`, `conv1_bn` | `conv1_conv` |
| `stage2_unit3_preact_bn` | | `conv3_block3_preact_bn` |
| `stage2_unit3_convK`, `_bnK` | `conv3_block3_K_conv`, `_K_bn` | the same |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `conv3_block1_0_conv`, `_0_bn` | `conv3_block1_0_conv` |
| `head_bn` | | `post_bn` |
| `head_dense` | `predictions` | `predictions` |

The published files call the classifier `probs`.

Where theirs differ, their weights are changed so that outputs do not:

- A bias before batch normalisation goes into the moving mean: ``x + b - mean = x - (mean - b)``. Biases that
  no batch normalisation follows (V2) stay, so that the stages' outputs are the same too.
- Their epsilon is 1.001e-5, ours 1e-5: the difference is added to the moving variance
  (`keras_resv2.convert.equivalence`).
- ResNet50's pixels are blue, green, red: the first kernel is turned round, and reads red, green, blue.

V2 takes its strides in the last unit of a stage, and its max-pooling sees zeros around the picture.
"""

import dataclasses
from collections.abc import Callable

FIXED = {"head_bn": "post_bn", "head_dense": "predictions"}
EPSILON = 1.001e-5


def layer(name):
    """Layer of theirs for one of ours."""
    if name in FIXED:
        return FIXED[name]
    if name.startswith("stem"):
        return name.replace("stem", "conv1")
    stage, unit, rest = name.split("_", 2)
    block = f"conv{int(stage[5:]) + 1}_block{unit[4:]}"
    if rest == "preact_bn":
        return f"{block}_preact_bn"
    kind = rest.removeprefix("shortcut_").rstrip("123")
    return f"{block}_{'0' if rest.startswith('shortcut') else rest[-1]}_{kind}"


@dataclasses.dataclass(frozen=True)
class ApplicationsLayout:
    """How the layers are called; attributes and methods are those of `PyTorchLayout`."""

    name: str
    activation: str
    marks: tuple[str, ...]
    structure: dict
    stem_kernel: int | None = None
    layer: Callable = layer
    by_source: Callable | None = None
    pixels: str = ""

    @property
    def first(self):
        """Name of a network's first tensor, by which it is found in a file."""
        return (self.key("stem_conv/kernel"),)

    def spell(self, name):
        return name.replace("probs/", "predictions/")

    def kernel_size(self, kernel):
        """Of a convolution's tensor."""
        return kernel.shape[0]

    def outputs(self, kernel):
        """Of the classifier's tensor."""
        return kernel.shape[-1]

    def key(self, name):
        layer, variable = name.split("/")
        return f"{self.layer(layer)}/{variable}"

    def expected(self, shapes, tensors):
        biases = {self._bias(name): shape for name, shape in shapes.items() if self._takes_bias(name)}
        return {self.key(name): shape for name, shape in shapes.items()} | biases

    def _takes_bias(self, name):
        """Whether this is the mean of a BN whose convolution has a bias in their networks."""
        return self.activation == "original" and name.endswith("/moving_mean")

    def _bias(self, mean):
        return self.key(mean).replace("_bn/moving_mean", "_conv/bias")

    def weights(self, tensors, shapes):
        arrays = {name: tensors[self.key(name)].astype("float64") for name in shapes}
        for name in arrays:
            if self._takes_bias(name):
                arrays[name] = arrays[name] - tensors[self._bias(name)]
            elif name == "stem_conv/kernel" and self.activation == "original":
                arrays[name] = arrays[name][:, :, ::-1]
        return arrays


V1 = ApplicationsLayout(
    name="keras.applications ResNet",
    activation="original",
    marks=("conv1_conv/kernel", "conv1_bn/gamma", "conv2_block1_1_conv/kernel"),
    structure={"stride_on": "1x1", "preprocessing": "caffe", "epsilon": EPSILON},
)
V2 = ApplicationsLayout(
    name="keras.applications ResNetV2",
    activation="full_preactivation",
    marks=("conv1_conv/kernel", "post_bn/gamma", "conv2_block1_preact_bn/gamma"),
    structure={
        "stem": "imagenet_zero_padded",
        "preprocessing": "tf",
        "stride_in": "last",
        "conv_bias": True,
        "epsilon": EPSILON,
    },
)
