"""Base of the Keras layouts: names of layers and variables. Arrays have the same memory order as ours."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class KerasLayout:
    """Names of the layers of a Keras network.

    Attributes:
        name, activation, marks, structure, stem_kernel, by_source, pixels: as those of
            `keras_resv2.convert.layouts.pytorch.PyTorchLayout`.
        layer: function from the name of a layer of ours to theirs.
        classifier_names: names that files have for the classifier's layer; the first is the layout's own.
        outer_classifier: whether the classifier lies outside of the model that holds all other layers.
        check_config: function from the configuration of a saved model, None without one, and the label of its source;
            raises ValueError if the network has the same tensors as one of ours and computes something else.
        blue_first: whether the network takes the channels of an image in the order blue, green, red.
    """

    name: str
    activation: str
    marks: tuple[str, ...]
    layer: Callable
    structure: dict = dataclasses.field(default_factory=dict)
    stem_kernel: int | None = None
    by_source: Callable | None = None
    pixels: str = ""
    classifier_names: tuple[str, ...] = ("predictions",)
    outer_classifier: bool = False
    check_config: Callable | None = None
    blue_first: bool = False

    @property
    def first(self):
        """Names of a network's first tensor, by which it is found in a file."""
        return (self.key("stem_conv/kernel"),)

    def spell(self, name):
        """A name of a file, as this layout has it."""
        layer, _, variable = name.rpartition("/")
        return f"{self.classifier_names[0]}/{variable}" if layer in self.classifier_names else name

    def kernel_size(self, kernel):
        """Of a convolution's tensor."""
        return kernel.shape[0]

    def outputs(self, kernel):
        """Channels that leave a convolution or the classifier, by its tensor."""
        return kernel.shape[-1]

    def key(self, name):
        """The tensor of one of our weights."""
        layer, variable = name.split("/")
        return f"{self.layer(layer)}/{variable}"

    def expected(self, shapes, tensors):
        """Names and shapes of the tensors, from those of our weights.

        Args:
            shapes: of our weights, by name.
            tensors: of the file, by names of this layout.
        """
        return {self.key(name): shape for name, shape in shapes.items()}

    def weights(self, tensors, shapes):
        """Our weights from tensors of this layout."""
        return {name: tensors[self.key(name)] for name in shapes}
