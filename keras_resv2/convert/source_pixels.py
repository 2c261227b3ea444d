"""Pixel statistics that other libraries state beside their weights.

timm's `save_for_hf` writes ``config.json`` with ``pretrained_cfg`` (mean, std), and its models have an attribute of
that name; Hugging Face's image processors write ``preprocessor_config.json`` (image_mean, image_std).
"""

import json
import os
import pathlib
from typing import Any

import numpy as np

from keras_resv2.models.preprocessing import PREPROCESSING

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
LARGEST_CONFIG = 1 << 24  # bytes
LARGEST = 1e6  # of a mean or standard deviation


def named_pixels(mean: Any, std: Any) -> str | tuple:
    """Returns pixel statistics as `keras_resv2.ResNet` takes them.

    Args:
        mean, std: three numbers each, on the scale from 0 to 255.

    Returns:
        "torch" or "tf" if they have this name, else ``(mean, std)``.

    Example:

    >>> named_pixels((127.5,) * 3, (127.5,) * 3)
    'tf'
    """
    names = (name for name in ("torch", "tf") if np.allclose(PREPROCESSING[name], (mean, std), atol=1e-3))
    return next(names, (mean, std))


def pixels_beside(label: str | os.PathLike) -> str | tuple | None:
    """Returns the pixel statistics in timm's or Hugging Face's configuration beside a weight file.

    Args:
        label: path of the file, or another label of a source, which has none.

    Returns:
        As `named_pixels`; None if there is no configuration, or it does not state them.
    """
    timm = config_beside(label, CONFIG).get("pretrained_cfg")
    return pixels_of_config(timm) or pixels_of_config(config_beside(label, PROCESSOR))


def pixels_of_config(config: Any) -> str | tuple | None:
    """Returns the pixel statistics of a configuration.

    Args:
        config: a timm `pretrained_cfg` or the content of a Hugging Face preprocessor_config.json, as a dictionary.

    Returns:
        As `named_pixels`; None if it does not state them.

    Example:

    >>> pixels_of_config({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    'tf'
    """
    if not isinstance(config, dict) or config.get("do_normalize") is False:
        return None
    pairs = (("mean", "std"), ("image_mean", "image_std"))
    for mean, std in ([_three(config.get(key)) for key in pair] for pair in pairs):
        if mean and std and min(std) > 0:
            return named_pixels(mean, std)
    return None


def _three(value):
    """Returns three numbers, given on the scale from 0 to 1, on that to 255; None for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    numbers = all(isinstance(v, int | float) and abs(v) < LARGEST for v in value)
    return tuple(round(255 * float(v), 6) for v in value) if numbers else None


def config_beside(label: str | os.PathLike, name: str) -> dict[str, Any]:
    """Returns the content of a JSON file beside a weight file.

    Args:
        label: path of the weight file, or another label of a source, which has none.
        name: name of the JSON file.

    Returns:
        Dictionary; empty if there is no such file, or it cannot be read.
    """
    path = pathlib.Path(label).parent / name
    try:
        if not pathlib.Path(label).is_file() or not path.is_file() or path.stat().st_size > LARGEST_CONFIG:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
