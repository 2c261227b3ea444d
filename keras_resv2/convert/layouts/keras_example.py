"""Networks of Keras' example `cifar10_resnet`, version 1, and others whose layers have the names that Keras counts.

| ours | theirs |
| --- | --- |
| `stem_conv`, `stem_bn` | `conv2d`, `batch_normalization` |
| `stage1_unit1_conv1`, `_conv2` | `conv2d_1`, `conv2d_2` |
| `stage2_unit1_shortcut_conv`, 1x1 | the convolution that follows the unit's last |
| `head_dense` | `dense` |

Layers are taken in the order of their numbers, which may start anywhere. A new stage begins where the number of filters
changes. What differs from our networks:

- Strided convolutions are padded as TensorFlow does: ``padding="tensorflow"``.
- Convolutions have biases: they go into the moving means of the batch normalizations that follow.
- 1x1 shortcuts have no batch normalization: ours has one that adds their bias and changes nothing else.
- Keras' epsilon is 1e-3: it goes into the moving variances.

Version 2 of the example has bottlenecks of other widths (16, 64, 128) than the paper's: it is refused.
"""

import dataclasses
import re

from keras_resv2.convert.equivalence import batch_norm_of
from keras_resv2.convert.layouts.keras import KerasLayout
from keras_resv2.data import DATASETS

COUNTED = re.compile(r"(conv2d|batch_normalization|dense)(?:_(\d+))?")
FIRST = re.compile(r"((?:.*/)?)conv2d(?:_\d+)?/kernel")
# CIFAR-10's mean of each channel; the example divides by 255 and has no standard deviation.
PIXELS = (DATASETS["cifar10"].mean, (255.0, 255.0, 255.0))


@dataclasses.dataclass(frozen=True)
class CountedLayout(KerasLayout):
    """Layers by the order of their numbers; what they are by their shapes."""

    def starts(self, names):
        """What the names of a network may begin with, by those of its convolutions."""
        return [match[1] for name in names if (match := FIRST.fullmatch(name))]

    def rename(self, names, tensors):
        """Our names of the tensors.

        Args:
            names: of the tensors, behind the network's prefix.
            tensors: arrays, by these names.

        Returns:
            Dictionary from our names to theirs; empty if the layers are none of such a network.

        Raises:
            ValueError: if they are of version 2.
        """
        kinds = {"conv2d": [], "batch_normalization": [], "dense": []}
        layers = {name.rpartition("/")[0] for name in names}
        for layer in layers:
            if match := COUNTED.fullmatch(layer):
                kinds[match[1]].append((int(match[2] or 0), layer))
        convs, norms, dense = ([layer for _, layer in sorted(kind)] for kind in kinds.values())
        kernels = [tensors.get(f"{conv}/kernel") for conv in convs]
        if len(convs) < 7 or not norms or len(dense) > 1 or any(k is None or k.ndim != 4 for k in kernels):
            return {}
        shapes = [kernel.shape for kernel in kernels]
        if [shape[0] for shape in shapes[:4]] == [3, 1, 3, 1]:
            raise ValueError(
                "the network is version 2 of Keras' example cifar10_resnet, whose bottlenecks have other widths than "
                "the paper's: no such networks are read."
            )
        ours = _ours(convs, shapes)
        before = [name.replace("conv", "bn") for name in ours.values() if "shortcut" not in name]
        if len(norms) == len(convs):
            before = [name.replace("conv", "bn") for name in ours.values()]
        if len(norms) != len(before):
            return {}
        ours |= dict(zip(norms, before, strict=True)) | dict.fromkeys(dense, "head_dense")
        pairs = ((name, *name.rpartition("/")[::2]) for name in names)
        return {f"{ours.get(layer, layer)}/{variable}": name for name, layer, variable in pairs}

    def expected(self, shapes, tensors):
        wanted = {name: shape for name, shape in shapes.items() if not _is_absent(name, tensors)}
        biases = {name: (shapes[_kernel_of(name)][-1],) for name in tensors if _kernel_of(name) in shapes}
        return wanted | biases

    def weights(self, tensors, shapes):
        arrays = {name: tensors[name].astype("float64") for name in tensors}
        for name in [name for name in arrays if _kernel_of(name) in shapes]:
            mean = batch_norm_of(name) + "/moving_mean"
            if mean in arrays:
                arrays[mean] = arrays[mean] - arrays.pop(name)
        return arrays


def _ours(convs, shapes):
    """Our names of the convolutions: units of two, and a 1x1 shortcut after the second."""
    ours, stage, unit, number = {convs[0]: "stem_conv"}, 1, 0, 2
    for before, conv, shape in zip(shapes, convs[1:], shapes[1:], strict=False):
        if shape[0] == 1:
            ours[conv] = f"stage{stage}_unit{unit}_shortcut_conv"
            continue
        number = 1 if number == 2 else 2
        if number == 1:
            wider = shape[-1] != before[-1]
            stage, unit = (stage + 1, 1) if wider else (stage, unit + 1)
        ours[conv] = f"stage{stage}_unit{unit}_conv{number}"
    return ours


def _kernel_of(name):
    """The kernel beside a bias; None of others."""
    return name.replace("/bias", "/kernel") if name.endswith("/bias") else None


def _is_absent(name, tensors):
    """Whether a weight belongs to the batch normalization of a shortcut that has none."""
    return "_shortcut_bn/" in name and name.rpartition("/")[0] + "/gamma" not in tensors


LAYOUT = CountedLayout(
    name="keras_example",
    activation="original",
    marks=("stem_conv/kernel", "stem_bn/gamma", "stage1_unit1_conv1/kernel"),
    layer=str,
    structure={"padding": "tensorflow", "epsilon": 1e-3, "preprocessing": PIXELS},
    pixels="1/255 and CIFAR-10's mean of each channel (Keras' example subtracts the mean of each pixel)",
    classifier_names=("head_dense",),
)
