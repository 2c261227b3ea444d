"""Layers whose kernel is not their weight named kernel: merges low-rank adapters, rejects quantized layers."""

from typing import Any

import keras
import numpy as np


def is_plain(layer: Any) -> bool:
    """Returns whether a layer's kernel is its weight named kernel: not quantized, without adapters."""
    return getattr(layer, "quantization_mode", None) is None and not getattr(layer, "lora_enabled", False)


def merged_weights(layer: Any) -> dict[str, np.ndarray] | None:
    """Merges the low-rank adapters of a layer (`layer.enable_lora`) into its weights.

    Args:
        layer: a Keras layer.

    Returns:
        Dictionary from the name of each variable to an array; None for a layer without adapters.

    Raises:
        ValueError: if the layer is quantized: no float32 weights give the same outputs.

    Example:

    >>> layer = keras.layers.Dense(3)
    >>> _ = layer(np.ones((1, 2))); layer.enable_lora(1)
    >>> sorted(merged_weights(layer))
    ['bias', 'kernel']
    """
    if getattr(layer, "quantization_mode", None) is not None:
        raise ValueError(
            f"layer {layer.name!r} is quantized ({layer.quantization_mode}), but the file to write holds float32 "
            "weights: pass the network before quantize(), or save this one with model.save(path)."
        )
    if not getattr(layer, "lora_enabled", False):
        return None
    names = [weight.name for weight in layer.weights if not weight.name.startswith("lora_")]
    return {name: np.asarray(keras.ops.convert_to_numpy(getattr(layer, name))) for name in names}
