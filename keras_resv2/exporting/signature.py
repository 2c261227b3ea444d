"""What goes into an exported network and what comes out, under which names, in every format."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resv2.models.folding import TRAINING_ONLY
from keras_resv2.models.graph import activation_name, as_functional, calls
from keras_resv2.models.pixels import takes_raw_pixels

# Outputs are named after the activation of the layer that they come from.
KINDS = {"softmax": "probabilities", "sigmoid": "probabilities", "linear": "logits"}
# Layers that keep pixels what they are.
RESIZING = (keras.layers.Resizing, keras.layers.CenterCrop, keras.layers.RandomCrop)
SIZE_WHERE_ANY = 64  # of images for a network that takes all sizes


@dataclasses.dataclass(frozen=True)
class Signature:
    """The input and outputs of a network.

    Attributes:
        shape: of the input, ``(None, height, width, 3)`` as the model has it; None where any size goes.
        dtype: of the input: "uint8" where the network normalizes raw pixels itself, else "float32".
        outputs: dictionary from the name of each output to its shape.
    """

    shape: tuple
    dtype: str
    outputs: dict

    def random_images(self, count: int = 4) -> np.ndarray:
        """Images to compare two forms of the network on, of the input's shape and type."""
        sides = (SIZE_WHERE_ANY if side is None else side for side in self.shape[1:])
        rng, shape = np.random.default_rng(0), (count, *sides)
        if self.dtype == "uint8":
            return rng.integers(0, 256, shape, dtype="uint8")
        return rng.standard_normal(shape, dtype="float32")


def signature_of(model: keras.Model) -> Signature:
    """The `Signature` of a functional `keras.Model` with one input.

    Example:

    >>> import keras_resv2
    >>> signature_of(keras_resv2.ResNet(8))
    Signature(shape=(None, 32, 32, 3), dtype='uint8', outputs={'probabilities': (None, 10)})
    """
    inputs = model.inputs[0]
    raw = inputs.dtype == "uint8" or (_takes_pixels(model) and takes_raw_pixels(model))
    dtype = "uint8" if raw else "float32"
    return Signature((None, *inputs.shape[1:]), dtype, {k: x.shape for k, x in named_outputs(model).items()})


def named_outputs(model: keras.Model) -> dict[str, Any]:
    """The output tensors of a functional model by the names that they have in exported files."""
    if isinstance(model.output, dict):
        return dict(model.output)
    outputs = keras.tree.flatten(model.output)
    if len(outputs) > 1:
        return {f"output_{number}": x for number, x in enumerate(outputs)}
    made_by = {id(x): node.operation for node in calls(model) for x in node.outputs}
    return {_kind(made_by[id(outputs[0])]): outputs[0]}


def by_name(names: Iterable[str], outputs: Any) -> dict[str, Any]:
    """What a network gave, as a dictionary from the names of its outputs."""
    if isinstance(outputs, dict):
        return {name: outputs[name] for name in names}
    return dict(zip(names, keras.tree.flatten(outputs), strict=True))


def _kind(layer):
    inner = as_functional(layer)
    if inner is not None:
        return next(iter(named_outputs(inner)))
    if isinstance(layer, keras.layers.Softmax):
        return "probabilities"
    is_classifier = isinstance(layer, (keras.layers.Dense, keras.layers.Activation))
    return KINDS.get(activation_name(layer), "features") if is_classifier else "features"


def _takes_pixels(model, tensors=None):
    """Whether all that reads the input, or other tensors of the model, normalizes it: behind augmentation, resizing."""
    given = {id(x) for x in (model.inputs if tensors is None else tensors)}
    readers = [node for node in calls(model) if any(id(x) in given for x in node.input_tensors)]
    return bool(readers) and all(_normalizes(model, node) for node in readers)


def _normalizes(model, node):
    layer, inner = node.operation, as_functional(node.operation)
    if inner is not None:
        return _takes_pixels(inner)
    if type(layer) in (*TRAINING_ONLY, *RESIZING):
        return _takes_pixels(model, node.outputs)
    return isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
