"""timm's ``config.json``: the networks that this package builds, and the arguments that change them."""

import re
from typing import Any

# timm's plain networks with ReLU, batch normalization and a stem of one convolution, of any depth.
PLAIN = re.compile(r"(resnet|resnetv2_)\d+|wide_resnet\d+_2")
# Keys of `model_args` that do not affect inference, and values that match our networks.
TRAINING = ("num_classes", "drop_rate", "drop_path_rate", "drop_block_rate")
USUAL = {"in_chans": 3, "global_pool": "avg", "output_stride": 32}


def check_model_args(config: dict[str, Any], place: str) -> None:
    """Raises ValueError if the arguments in a configuration change what its network computes.

    Args:
        config: content of timm's ``config.json``.
        place: where it is, for the message.

    Example:

    >>> check_model_args({"architecture": "resnet18", "model_args": {"output_stride": 8}}, "timm/mine")
    Traceback (most recent call last):
    ValueError: timm/mine is a resnet18 with output_stride=8, which this package does not build.
    """
    others = config.get("model_args")
    others = others if isinstance(others, dict) else {}
    changed = [key for key in others if key not in TRAINING and others[key] != USUAL.get(key)]
    if changed:
        raise ValueError(
            f"{place} is a {config['architecture']} with {', '.join(f'{key}={others[key]!r}' for key in changed)}, "
            "which this package does not build."
        )


def check_network(config: dict[str, Any], place: str) -> None:
    """Raises ValueError if a configuration names a timm network that this package does not build.

    Some of them have the tensors of a plain network: `resnetblur50` and `resnetaa50` filter feature maps before they
    subsample.

    Args:
        config: content of a ``config.json``; without timm's `architecture` and `pretrained_cfg` it is not timm's, and
            is accepted.
        place: where it is, for the message.

    Example:

    >>> check_network({"architecture": "resnetblur50", "pretrained_cfg": {}}, "model.safetensors")
    Traceback (most recent call last):
    ValueError: model.safetensors is timm's 'resnetblur50' by the config.json beside it, which this package does not \
build.
    """
    name = config.get("architecture")
    if not isinstance(name, str) or not isinstance(config.get("pretrained_cfg"), dict):
        return
    if not PLAIN.fullmatch(name):
        raise ValueError(f"{place} is timm's {name!r} by the config.json beside it, which this package does not build.")
    check_model_args(config, place)
