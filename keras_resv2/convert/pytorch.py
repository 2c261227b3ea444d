"""What all PyTorch layouts share: names and shapes of tensors, and how their arrays lie in memory."""

import dataclasses
import re

# BN's epsilon is 1e-5 in PyTorch as here.
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
    """How the tensors of a state dict are called.

    Attributes:
        name: of the layout.
        activation: of its networks, a key of `keras_resv2.units.ACTIVATIONS`.
        fixed: modules of the layers outside the stages, by our names.
        unit: modules in a unit, by what follows "stageS_unitU_" in our names; the others are called as ours.
        block: what stands before them, with "stage" (from 1), "stage_index" and "unit_index" (from 0).
        marks: names that tell a file of this layout.
        stem_kernel: size of the first convolution that tells it too; None for any.
        spellings: pairs of a pattern and what it is replaced by: other names that files have for the same.
        structure: arguments of `ResNet` that its networks have, where a file does not say.
        allowed: arguments of `ResNet` and the values that a network may have to be written in this layout.
        unsaid: what a file does not say and is assumed, as phrases, by argument.
        dense_as_conv: whether the classifier is a 1x1 convolution.
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
    unsaid: dict = dataclasses.field(default_factory=dict)
    dense_as_conv: bool = False

    def spell(self, name):
        """A name of a file, as this layout has it."""
        for pattern, replacement in self.spellings:
            name = re.sub(pattern, replacement, name)
        return name

    def kernel_size(self, kernel):
        """Of a convolution's tensor."""
        return kernel.shape[-1]

    def layer(self, name):
        """The module of a layer of ours: "layer1.0.conv1" for "stage1_unit1_conv1"."""
        if name in self.fixed:
            return self.fixed[name]
        stage, unit, rest = name.split("_", 2)
        stage, unit = int(stage.removeprefix("stage")), int(unit.removeprefix("unit"))
        block = self.block.format(stage=stage, stage_index=stage - 1, unit_index=unit - 1)
        return f"{block}.{self.unit.get(rest, rest)}"

    def key(self, name):
        """The tensor of one of our weights: "layer1.0.conv1.weight" for "stage1_unit1_conv1/kernel"."""
        layer, variable = name.split("/")
        return f"{self.layer(layer)}.{VARIABLES[variable]}"

    def expected(self, shapes):
        """Names and shapes of the tensors, from those of our weights."""
        return {self.key(name): self._shape(name, shape) for name, shape in shapes.items()}

    def _shape(self, name, shape):
        if len(shape) == 4:
            return (shape[3], shape[2], *shape[:2])
        if len(shape) == 2:
            return (*shape[::-1], 1, 1) if self.dense_as_conv else shape[::-1]
        return shape

    def weights(self, tensors, shapes):
        """Our weights from tensors of this layout."""
        return {name: _to_ours(tensors[self.key(name)], shape) for name, shape in shapes.items()}

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
