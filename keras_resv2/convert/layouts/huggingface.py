"""Hugging Face's `ResNetForImageClassification` and `ResNetModel`.

| ours | theirs, behind `resnet.` where there is a classifier |
| --- | --- |
| `stem_conv`, `stem_bn` | `embedder.embedder.convolution`, `.normalization` |
| `stage2_unit3_convK`, `_bnK` | `encoder.stages.1.layers.2.layer.<K-1>.convolution`, `.normalization` |
| `stage2_unit1_shortcut_conv`, `_shortcut_bn` | `encoder.stages.1.layers.0.shortcut.convolution`, `.normalization` |
| `head_dense` | `classifier.1` |

Bottlenecks take the stride on the 3x3 convolution, those with `downsample_in_bottleneck` on the first 1x1 convolution;
the `config.json` beside a file says which.
"""

from keras_resv2.convert.layouts.pytorch import PyTorchLayout
from keras_resv2.convert.source_pixels import CONFIG, config_beside

KINDS = {"conv": "convolution", "bn": "normalization"}
FIRST = "embedder.embedder.convolution.weight"


def read_config(names, label):
    """Which convolution of a bottleneck takes the stride, by the configuration beside the file.

    Args:
        names: of the tensors.
        label: path of the file, or what a dictionary or a module is called.

    Returns:
        Arguments of `ResNet`; none without a configuration.

    Raises:
        ValueError: if the configuration says that the first stage halves the image, which no network here does.
    """
    config = config_beside(label, CONFIG)
    if config.get("model_type") != "resnet":
        return {}
    if config.get("downsample_in_first_stage"):
        raise ValueError(f"{label}: its first stage halves the image (downsample_in_first_stage), which is not built.")
    if config.get("hidden_act", "relu") != "relu":
        raise ValueError(f"{label}: its activation is {config['hidden_act']!r}, and only ReLU is built.")
    return {"stride_on": "1x1" if config.get("downsample_in_bottleneck") else "3x3"}


LAYOUT = PyTorchLayout(
    name="huggingface",
    activation="original",
    fixed={
        "stem_conv": "embedder.embedder.convolution",
        "stem_bn": "embedder.embedder.normalization",
        "head_dense": "classifier.1",
    },
    unit={
        **{f"{kind}{k}": f"layer.{k - 1}.{theirs}" for kind, theirs in KINDS.items() for k in (1, 2, 3)},
        **{f"shortcut_{kind}": f"shortcut.{theirs}" for kind, theirs in KINDS.items()},
    },
    block="encoder.stages.{stage_index}.layers.{unit_index}",
    marks=(FIRST, "encoder.stages.0.layers.0.layer.0.convolution.weight"),
    stem_kernel=7,
    spellings=((r"^resnet\.", ""),),
    structure={"stride_on": "3x3"},
    by_source=read_config,
    pixels="ImageNet's mean and standard deviation",
    first_names=(f"resnet.{FIRST}", FIRST),
)
