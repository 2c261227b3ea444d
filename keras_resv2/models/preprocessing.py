"""Statistics that pixels are normalized with: by name, and for other numbers of channels than three."""

import math
from typing import Any

from keras_resv2.argument_checks import check_choice
from keras_resv2.data import DATASETS
from keras_resv2.data.registry import IMAGENET_MEAN, IMAGENET_STD

Pixels = tuple[tuple[float, ...], tuple[float, ...]]
# Mean and standard deviation of pixels per channel (red, green, blue), on the 0-255 scale, under their names in
# keras.applications. The statistics of the registry's datasets are named after the datasets.
PREPROCESSING: dict[str, Pixels] = {
    "torch": (IMAGENET_MEAN, IMAGENET_STD),
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}

MOST_CHANNELS = 1024  # of images; an untrusted card may name any number


def resolve_pixels(preprocessing: Any) -> Pixels:
    """Resolves a name or a pair to the mean and standard deviation of pixels.

    Args:
        preprocessing: a dataset of the registry, such as "cifar100"; or a key of `PREPROCESSING`; or
            ``(mean, std)``, each with one number per channel (red, green, blue) on the 0-255 scale.

    Returns:
        ``(mean, std)``, each a tuple with one number per channel.

    Raises:
        ValueError: if it is none of these.

    Example:

    >>> resolve_pixels("tf")[0]
    (127.5, 127.5, 127.5)
    """
    named: dict[str, Pixels] = {name: pixels for name, row in DATASETS.items() if (pixels := row.pixels)}
    named |= PREPROCESSING
    if isinstance(preprocessing, str):
        return named[check_choice("preprocessing", preprocessing, named)]
    try:
        mean, std = (tuple(float(value) for value in values) for values in preprocessing)
    except (TypeError, ValueError, OverflowError):
        mean = std = ()
    if 0 < len(mean) == len(std) <= MOST_CHANNELS and min(std) > 0 and all(map(math.isfinite, (*mean, *std))):
        if max(map(abs, mean)) <= 1 and max(std) < 1:
            raise ValueError(
                f"preprocessing={preprocessing!r} is for pixels from 0 to 1, but pixels here go from 0 to 255: "
                "multiply all numbers by 255."
            )
        return mean, std
    raise ValueError(
        f"preprocessing={preprocessing!r} must be one of {', '.join(map(repr, named))}, or a pair (mean, std), "
        "each with one number per channel on the 0-255 scale, std above 0."
    )


def pixels_of_channels(pixels: Pixels, channels: int) -> Pixels:
    """Adapts pixel statistics to images with a number of channels other than three.

    Args:
        pixels: ``(mean, std)``, see `resolve_pixels`.
        channels: number of channels of the images.

    Returns:
        ``(mean, std)`` with one number per channel: unchanged if the number matches, otherwise the average of the three
        for every channel.

    Raises:
        ValueError: if they have neither three numbers nor one per channel.

    Example:

    >>> pixels_of_channels(((120.0, 117.0, 105.0), (60.0, 60.0, 66.0)), 1)
    ((114.0,), (62.0,))
    """
    counts = len(pixels[0])
    if counts == channels:
        return pixels
    if counts != 3:
        raise ValueError(
            f"preprocessing has statistics of {counts} channels, but images have {channels}: pass one number per "
            "channel."
        )
    return averaged_pixels(pixels, channels)


def averaged_pixels(pixels: Pixels, channels: int) -> Pixels:
    """Returns the averages of pixel statistics over their channels, for another number of channels.

    Args:
        pixels: ``(mean, std)``, see `resolve_pixels`.
        channels: number of channels of the images.

    Example:

    >>> averaged_pixels(((33.0,), (78.0,)), 3)
    ((33.0, 33.0, 33.0), (78.0, 78.0, 78.0))
    """
    mean, std = (sum(values) / len(values) for values in pixels)
    return (mean,) * channels, (std,) * channels
