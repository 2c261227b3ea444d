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

- A bias before batch normalization goes into the moving mean: ``x + b - mean = x - (mean - b)``. Biases that
  no batch normalization follows (V2) stay, so that the stages' outputs are the same too.
- Their epsilon is 1.001e-5, ours 1e-5: the difference is added to the moving variance
  (`keras_resv2.convert.equivalence`).
- ResNet50's pixels are blue, green, red: the first kernel is reversed, and reads red, green, blue.

V2 takes its strides in the last unit of a stage, and its max-pooling sees zeros around the image.
"""

from keras_resv2.convert.layouts.keras import KerasLayout

FIXED = {"head_bn": "post_bn", "head_dense": "predictions"}
EPSILON = 1.001e-5
PIXELS = "keras.applications' preprocess_input, and by no layer before the network"
CLASSIFIERS = ("predictions", "probs")


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


class _WithBiases(KerasLayout):
    """Networks whose convolutions have biases before batch normalization, which go into its moving mean."""

    def expected(self, shapes, tensors):
        biases = {self._bias(name): shape for name, shape in shapes.items() if name.endswith("/moving_mean")}
        return super().expected(shapes, tensors) | biases

    def _bias(self, mean):
        return self.key(mean).replace("_bn/moving_mean", "_conv/bias")

    def weights(self, tensors, shapes):
        arrays = {name: array.astype("float64") for name, array in super().weights(tensors, shapes).items()}
        for name in arrays:
            if name.endswith("/moving_mean"):
                arrays[name] = arrays[name] - tensors[self._bias(name)]
        arrays["stem_conv/kernel"] = arrays["stem_conv/kernel"][:, :, ::-1]  # blue, green, red
        return arrays


V1 = _WithBiases(
    name="keras.applications ResNet",
    activation="original",
    layer=layer,
    classifier_names=CLASSIFIERS,
    blue_first=True,
    marks=("conv1_conv/kernel", "conv1_bn/gamma", "conv2_block1_1_conv/kernel"),
    structure={"stride_on": "1x1", "preprocessing": "caffe", "epsilon": EPSILON},
    pixels=PIXELS,
)
V2 = KerasLayout(
    name="keras.applications ResNetV2",
    activation="full_preactivation",
    layer=layer,
    classifier_names=CLASSIFIERS,
    marks=("conv1_conv/kernel", "post_bn/gamma", "conv2_block1_preact_bn/gamma"),
    structure={
        "stem": "imagenet_zero_padded",
        "preprocessing": "tf",
        "stride_in": "last",
        "conv_bias": True,
        "epsilon": EPSILON,
    },
    pixels=PIXELS,
)
