"""One forward pass of a batch through a dissected network, and the gradient of its loss at the end."""

from typing import Any

import keras

from keras_resv2.analysis.dissection import Dissection
from keras_resv2.analysis.inputs import check_images, loss_gradient


class Trace:
    """All intermediate values of a batch in a network whose units have shortcuts.

    Args:
        parts: `keras_resv2.analysis.dissection.Dissection`.
        images: ``(n, height, width, 3)``, raw pixels.
        labels: ``(n,)``, class indices; the loss is the mean cross-entropy.
        training: see `keras_resv2.analysis.propagate`.

    Attributes:
        pixels: the images as floats.
        inputs: x of each unit, followed by the input of the head.
        shortcuts, branches, totals: h(x), F(x) and their sum for each unit.
        gradient: gradient of the loss with respect to the head's input.

    Raises:
        ValueError: if a unit has no shortcut; the network computes in float16, or is folded and `training` is True; or
            images and labels do not match each other or the network.
    """

    def __init__(self, parts: Dissection, images: Any, labels: Any, training: bool = False):
        if any(unit.plain for unit in parts.units):
            raise ValueError(
                f"{parts.name} is a plain network: it has no shortcuts and only one path through all units."
            )
        if training and any(_is_folded(unit) for unit in parts.units):
            raise ValueError(
                f"{parts.name} is folded, so most of its batch normalization has no batch statistics: analyze it "
                "before folding it, or with training=False."
            )
        if any("float16" in program.compute_dtypes for program in _programs(parts)):
            raise ValueError(
                f"{parts.name} computes in float16, whose smallest numbers are larger than most of these gradients: "
                'build it with dtype="float32" or "mixed_bfloat16", from the same weights.'
            )
        images, labels = check_images(parts, images, labels)
        self.pixels = keras.ops.convert_to_tensor(images, "float32")
        x = parts.stem(self.pixels, training)
        self.inputs, self.shortcuts, self.branches, self.totals = [x], [], [], []
        for unit in parts.units:
            self.shortcuts.append(x if unit.shortcut is None else unit.shortcut(x, training))
            self.branches.append(unit.branch(x, training))
            self.totals.append(self.shortcuts[-1] + self.branches[-1])
            x = self.totals[-1] if unit.after is None else unit.after(self.totals[-1], training)
            self.inputs.append(x)
        self.gradient = parts.head.vjp(x, loss_gradient(parts.head(x, training), labels), training)


def _programs(parts):
    """Returns the programs of the stem, the units and the head."""
    of_units = (part for unit in parts.units for part in (unit.shortcut, unit.branch, unit.after) if part is not None)
    return [part.program for part in (parts.stem, *of_units, parts.head)]


def _is_folded(unit):
    """Returns whether the batch normalization after the first convolution, which all units have, is in its kernel."""
    names = {name.removeprefix(f"{unit.name}_") for name in unit.branch.layers}
    return "conv1" in names and "bn1" not in names
