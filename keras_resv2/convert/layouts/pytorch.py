"""Base of the PyTorch layouts: names, shapes and memory order of tensors."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from keras_resv2.convert.equivalence import batch_norm_of

VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclasses.dataclass(frozen=True)
class PyTorchLayout:
    """Names of the tensors of a state dict.

    Attributes:
        name: of the layout.
        activation: of its networks, a key of `keras_resv2.models.blocks.ACTIVATIONS`.
        fixed: modules of the layers outside the stages, by our names.
        unit: modules in a unit, by what follows "stageS_unitU_" in our names; the others are called as ours.
        block: what stands before them, with "stage" and "unit" (from 1), "stage_index" and "unit_index" (from 0).
        marks: names that tell a file of this layout.
        stem_kernel: size of the first convolution that tells it too; None for any.
        spellings: pairs of a pattern and what it is replaced by: other names that files have for the same.
        structure: arguments of `ResNet` that its networks have, where a file does not say.
        allowed: arguments of `ResNet` and the values that a network may have to be written in this layout.
        by_source: function from the file's own names of its tensors, and its path or another label, to more of these
            arguments; None for no more.
        pixels: what pixels are normalized with, in words; empty for the statistics of the stem's dataset.
        dense_as_conv: whether the classifier is a 1x1 convolution.
        first_names: names that files have for the kernel of the first convolution; empty for the layout's own.
        check: function from the tensors to whether they are of this layout, where the marks do not say; None for yes.
    """

    name: str
    activation: str
    fixed: dict
    unit: dict
    marks: tuple[str, ...]
    block: str = "layer{stage}.{unit_index}"
    stem_kernel: int | None = None
    spellings: tuple = ()
    structure: dict = dataclasses.field(default_factory=dict)
    allowed: dict = dataclasses.field(default_factory=dict)
    by_source: Callable | None = None
    pixels: str = ""
    dense_as_conv: bool = False
    first_names: tuple[str, ...] = ()
    check: Callable | None = None

    @property
    def first(self):
        """Names of a network's first tensor, by which it is found in a checkpoint."""
        return self.first_names or (self.key("stem_conv/kernel"),)

    def spell(self, name):
        """A name of a file, as this layout has it."""
        for pattern, replacement in self.spellings:
            name = re.sub(pattern, replacement, name)
        return name

    def kernel_size(self, kernel):
        """Of a convolution's tensor."""
        return kernel.shape[-1]

    def outputs(self, kernel):
        """Channels that leave a convolution or the classifier, by its tensor."""
        return kernel.shape[0]

    def layer(self, name):
        """The module of a layer of ours: "layer1.0.conv1" for "stage1_unit1_conv1"."""
        if name in self.fixed:
            return self.fixed[name]
        stage, unit, rest = name.split("_", 2)
        stage, unit = int(stage.removeprefix("stage")), int(unit.removeprefix("unit"))
        block = self.block.format(stage=stage, unit=unit, stage_index=stage - 1, unit_index=unit - 1)
        return f"{block}.{self.unit.get(rest, rest)}"

    def key(self, name):
        """The tensor of one of our weights: "layer1.0.conv1.weight" for "stage1_unit1_conv1/kernel"."""
        layer, variable = name.split("/")
        return f"{self.layer(layer)}.{VARIABLES[variable]}"

    def expected(self, shapes, tensors):
        """Names and shapes of the tensors, from those of our weights.

        Biases are optional: missing ones become zeros, and those of convolutions before a batch normalization are
        subtracted from its moving mean.

        Args:
            shapes: of our weights, by name.
            tensors: of the file, by names of this layout.
        """
        ours = {name: self.key(name) for name in shapes}
        absent = {key for name, key in ours.items() if name.endswith("/bias") and key not in tensors}
        wanted = {key: self._shape(name, shapes[name]) for name, key in ours.items() if key not in absent}
        return wanted | {key: shapes[mean] for key, mean in self._before_batch_norm(shapes).items() if key in tensors}

    def _before_batch_norm(self, shapes):
        """Tensors of biases by which a batch normalization's input is higher, and its moving mean."""
        convolutions = [name for name in shapes if re.search(r"_conv\d?/kernel$", name)]
        means = {name: f"{batch_norm_of(name)}/moving_mean" for name in convolutions}
        biases = {name.replace("/kernel", "/bias"): mean for name, mean in means.items() if mean in shapes}
        return {self.key(bias): mean for bias, mean in biases.items() if bias not in shapes}

    def _shape(self, name, shape):
        if len(shape) == 4:
            return (shape[3], shape[2], *shape[:2])
        if len(shape) == 2:
            return (*shape[::-1], 1, 1) if self.dense_as_conv else shape[::-1]
        return shape

    def weights(self, tensors, shapes):
        """Our weights from tensors of this layout."""
        zeros = {self.key(name): np.zeros(shape, "float32") for name, shape in shapes.items() if name.endswith("/bias")}
        tensors = {**zeros, **tensors}
        weights = {name: _to_ours(tensors[self.key(name)], shape) for name, shape in shapes.items()}
        for key, mean in self._before_batch_norm(shapes).items():
            if key in tensors:
                weights[mean] = weights[mean] - tensors[key]  # x + b - mean = x - (mean - b)
        return weights

    def tensors(self, weights):
        """Tensors of this layout from our weights."""
        shapes = {name: self._shape(name, array.shape) for name, array in weights.items()}
        return {self.key(name): _to_theirs(array, shapes[name]) for name, array in weights.items()}


def _to_ours(array, shape):
    if len(shape) == 4:
        return array.transpose(2, 3, 1, 0)
    return array.reshape(shape[::-1]).T if len(shape) == 2 else array


def _to_theirs(array, shape):
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        array = array.T
    return array.reshape(shape).copy()
