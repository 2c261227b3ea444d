"""Layers whose kernel is not the weight of that name: low-rank adapters are merged, quantized layers are refused."""

import keras
import numpy as np


def is_plain(layer):
    """Whether a layer's kernel is the weight of that name: not quantized, nothing added to it."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(layer, "lora_enabled", False)


def merged_weights(layer):
    """The weights of a layer with low-rank adapters (`layer.enable_lora`) as those of one without.

    Args:
        layer: of Keras.

    Returns:
        Dictionary from the name of each variable to an array; None for a layer without adapters.

    Raises:
        ValueError: the layer is quantized: its outputs are those of no float32 weights.

    Example:

    >>> layer = keras.layers.Dense(3)
    >>> _ = layer(np.ones((1, 2))); layer.enable_lora(1)
    >>> sorted(merged_weights(layer))
    ['bias', 'kernel']
    """
    if getattr(layer, "quantization_mode", None) is not None:
        raise ValueError(
            f"layer {layer.name!r} is quantized ({layer.quantization_mode}), and what is written holds float32 "
            "weights: give the network as it was before quantize(), or keep this one by model.save(path)."
        )
    if not getattr(layer, "lora_enabled", False):
        return None
    names = [weight.name for weight in layer.weights if not weight.name.startswith("lora_")]
    return {name: np.asarray(keras.ops.convert_to_numpy(getattr(layer, name))) for name in names}
