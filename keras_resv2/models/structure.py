"""Infers the structure of a network from its layers: what weights of the same names and shapes do not tell."""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.models.config import STEMS

# What follows "stageS_unitU_" in the layers of a unit whose shortcut is the identity, or a projection.
UNIT_LAYERS = re.compile(
    r"preact_(bn|relu)|conv\d(_pad)?|(bn|relu)\d|shortcut_(conv|bn|subsample|average|pad)|add|postact_(bn|relu)"
)
CONV = re.compile(r"stem_conv|stage(\d+)_unit\d+_(conv\d|shortcut_conv)")


def infer_structure(model: keras.Model) -> dict[str, Any]:
    """Infers the arguments of `ResNet` that the outputs depend on and the names and shapes of the weights do not tell.

    Args:
        model: a network of `keras_resv2.ResNet`, rolled or not.

    Returns:
        Dictionary with activation, shortcut, projection, stride_on, stride_in, stem, padding, conv_bias and
        activated_shortcuts; None where an argument has no meaning for the network. The shortcut is "identity" or
        "none", or the names of all layers that only other shortcuts have, joined by "+".

    Raises:
        ValueError: if the model is not such a network, or its batch normalization is folded.

    Example:

    >>> import keras_resv2
    >>> infer_structure(keras_resv2.ResNet20())["projection"]
    'A'
    """
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    if not {"stem_conv", "stage1_unit1_conv1", "stage1_unit1_bn1", "stage2_unit1_conv1"} <= set(layers):
        raise ValueError(
            f"{model!r} is not a network of keras_resv2 with its batch normalization: pass the network before fold() "
            "or any other change."
        )
    activation = _activation(layers)
    first = {rest: layer for name, layer in layers.items() if (rest := name.removeprefix("stage1_unit1_")) != name}
    bottleneck = "conv3" in first
    convs = [(*match.groups(), layer) for name, layer in layers.items() if (match := CONV.fullmatch(name))]
    strided = {(stage, conv) for stage, conv, layer in convs if stage and max(layer.strides) > 1}
    # With a dilation in place of its stride, the unit's 3x3 convolution has it if the stride was before it.
    dilated_after = not strided and max(layers["stage2_unit1_conv2"].dilation_rate) > 1
    on_first = dilated_after or any(conv == "conv1" for _, conv in strided)
    return {
        "activation": activation,
        "shortcut": _shortcut(layers),
        "projection": _projection(layers, bottleneck),
        "stride_in": "last" if any(stage == "1" for stage, _ in strided) else "first",
        "stride_on": ("1x1" if on_first else "3x3") if bottleneck else None,
        "stem": _stem(layers, activation),
        "padding": _padding(layers),
        "conv_bias": any(layer.use_bias for *_, layer in convs),
        "activated_shortcuts": _activated_shortcuts(layers) if {"preact_relu", "add"} <= set(first) else None,
    }


def pixels_of(model: keras.Model) -> tuple | None:
    """Mean and standard deviation by which a network normalizes pixels; None without preprocessing.

    Example:

    >>> import keras_resv2
    >>> pixels_of(keras_resv2.ResNet20())[0]
    (125.307, 122.95, 113.865)
    """
    for layer in model.layers:
        if layer.name == "preprocessing" and isinstance(layer, keras.layers.Rescaling):
            scale, offset = (np.ravel(values) for values in (layer.scale, layer.offset))
            return tuple(tuple(float(f"{value:.6g}") for value in values) for values in (-offset / scale, 1 / scale))
    return None


def structure_of(model: keras.Model) -> dict[str, Any] | None:
    """Returns the structure and pixel statistics of a network; None if it is not one of this package, as built.

    Example:

    >>> import keras_resv2
    >>> structure_of(keras_resv2.ResNet20())["activation"]
    'original'
    """
    try:
        return {**infer_structure(model), "pixels": pixels_of(model)}
    except (ValueError, KeyError, AttributeError):  # other models may have layers of the same names
        return None


def check_structure(model: keras.Model, saved: Mapping[str, Any] | None, source: Any) -> None:
    """Raises ValueError if weights were saved from a network of another structure than the model's.

    Args:
        model: the network that they are loaded into.
        saved: what `structure_of` returned when they were saved; None if it is unknown.
        source: where the weights come from, for the message.
    """
    own = structure_of(model) if saved else None
    if not saved or not own:
        return
    differ = {
        name: saved[name]
        for name in own
        if saved.get(name) is not None and own[name] is not None and not _same(saved[name], own[name])
    }
    if differ:
        raise ValueError(
            f"{source} was saved from a network with {_words(differ)}, but model {model.name!r} has "
            f"{_words({name: own[name] for name in differ})}: build it with the same arguments."
        )


def _same(saved, own):
    try:
        return np.allclose(saved, own, rtol=1e-4) if isinstance(own, tuple) else saved == own
    except (TypeError, ValueError):
        return False


def _words(values):
    return ", ".join(f"{name}={str(value)[:60]}" for name, value in values.items())


def _activation(layers):
    """Returns the row of Fig. 4 whose layers the first unit has."""
    prefix = "stage1_unit1_"
    last = 3 if f"{prefix}conv3" in layers else 2
    for name, row in ACTIVATIONS.items():
        places = (
            (row.before_branch, "preact_{}"),
            (row.after_last_conv, f"{{}}{last}"),
            (row.after_addition, "postact_{}"),
        )
        if all(
            (f"{prefix}{place.format(kind)}" in layers) == (kind in kinds)
            for kinds, place in places
            for kind in ("bn", "relu")
        ):
            return name
    raise ValueError("the model's units are none of the paper's Fig. 4.")


def _shortcut(layers):
    """Returns "identity", "none", or the names of all layers of units that neither of them has, joined by "+"."""
    inside = [
        layer.name for rolled in layers.values() if hasattr(rolled, "unit_weights") for layer in rolled.unit.layers
    ]
    units = (re.fullmatch(r"stage\d+_unit\d+_(?!to_)(.+)", name) for name in (*layers, *inside))
    others = {match[1] for match in units if match and not UNIT_LAYERS.fullmatch(match[1])}
    if others:
        return "+".join(sorted(others))
    return "identity" if "stage1_unit1_add" in layers else "none"


def _projection(layers, bottleneck):
    if "stage1_unit1_add" not in layers:
        return None
    # A shortcut that changes neither size nor width.
    if "stage1_unit1_shortcut_conv" in layers and not bottleneck and not _widens(layers["stage1_unit1_shortcut_conv"]):
        return "C"
    if "stage2_unit1_shortcut_conv" not in layers:
        averages = any(name.endswith("_shortcut_average") for name in layers)
        return "A_average" if averages else "A"
    rolled = [layer.unit_weights() for layer in layers.values() if hasattr(layer, "unit_weights")]
    names = {*layers, *(name.split("/")[0] for names in rolled for name in names)}
    return "C" if any(name.endswith("unit2_shortcut_conv") for name in names) else "B"


def _widens(conv):
    inputs, outputs = conv.kernel.shape[-2:]
    return inputs != outputs


def _stem(layers, activation):
    conv = layers["stem_conv"]
    zeros = activation != "original" and "stem_pool_pad" in layers and "stem_relu" not in layers
    activated = bool(ACTIVATIONS[activation].before_branch) and "stem_bn" in layers
    found = (conv.kernel_size[0], conv.strides[0], "stem_pool" in layers, zeros, activated)
    stems = {(s.kernel_size, s.strides, s.pool, s.pool_zeros, s.activate): name for name, s in STEMS.items()}
    return stems[found]


def _padding(layers):
    convs = [layer for layer in layers.values() if isinstance(layer, keras.layers.Conv2D)]
    strided = [conv for conv in convs if max(conv.strides) > 1 and max(conv.kernel_size) > 1]
    if not strided:
        return None
    return "tensorflow" if all(layer.padding == "same" for layer in strided) else "torch"


def _activated_shortcuts(layers):
    """Finds where the first unit's shortcut and the second stage's projection start."""
    if "stage1_unit1_shortcut_conv" not in layers and _shortcut_source(layers, "stage1_unit1").endswith("_preact_relu"):
        return "first_and_projections"
    convs = [f"stage{stage}_unit1_shortcut_conv" for stage in (1, 2)]
    activated = [_sources(layers[name]) for name in convs if name in layers]
    return "projections" if activated and all("preact_relu" in str(names) for names in activated) else "none"


def _shortcut_source(layers, unit):
    """Returns the name of the layer that the shortcut of a unit starts from."""
    name, own = f"{unit}_add", re.compile(rf"{unit}_shortcut_\w+")
    while name == f"{unit}_add" or own.fullmatch(name):
        # The shortcut is the first input of the addition; a gate is the first input of what it multiplies.
        sources = _sources(layers[name])
        name = next((source for source in sources if not source.startswith(f"{unit}_gate_")), sources[0])
    return name


def _sources(layer):
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    return [x._keras_history.operation.name for x in inputs]
