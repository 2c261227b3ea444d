"""Center crops of encoded images, for testing ImageNet networks.

Pillow decodes the images and converts every color mode to RGB; the EXIF orientation of JPEG files is ignored, as in
other ImageNet pipelines.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_resv2.argument_checks import check_choice
from keras_resv2.data.images import FILTERS, center_box, open_image, to_rgb
from keras_resv2.data.sources import Source

# The JPEG decoder may downscale an image by powers of two as long as it keeps this many times the crop's pixels along
# each side: the filter of the subsequent resize then hides that of the decoder.
DRAFT_SPARE = 2


def read_crop(source: Source, i: int, crop: Callable[[bytes], np.ndarray]) -> tuple[np.ndarray, Any]:
    """Reads an image of a source and crops it.

    Args:
        source: a source, see `keras_resv2.data.sources.open_source`.
        i: position of the image.
        crop: function from the bytes of an image file to uint8 ``(size, size, 3)``.

    Returns:
        ``(crop, label)``.

    Raises:
        ValueError: if the file is not a readable image; the message has its location.
    """
    encoded, label = source[i]
    try:
        return crop(encoded), label
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{source.place(i)} is not a readable image: {reason}.") from None


def center_crop(encoded: bytes, shorter_side: int, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Resizes an image to a shorter side and returns its center crop.

    Args:
        encoded: bytes of an image file.
        shorter_side: shorter side of the resized image, in pixels.
        size: side of the crop in pixels, at most `shorter_side`.
        interpolation: "bilinear" or "bicubic".

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.

    Raises:
        ValueError: if the crop is larger than the resized image, or there is no such interpolation.
    """
    if size > shorter_side:
        raise ValueError(f"a crop of {size} pixels does not fit into a shorter side of {shorter_side} pixels.")
    check_choice("interpolation", interpolation, FILTERS)
    return np.asarray(
        cut(encoded, size, lambda width, height: center_box(width, height, shorter_side, size), interpolation)
    )


def cut(encoded: bytes, size: int, choose_box: Callable, interpolation: str = "bilinear") -> Image.Image:
    """Resizes the box of an image returned by `choose_box(width, height)` to `size`, in one pass."""
    with open_image(io.BytesIO(encoded)) as image:
        width, height = image.size
        left, top, right, bottom = choose_box(width, height)
        across, down = DRAFT_SPARE * size * width / (right - left), DRAFT_SPARE * size * height / (bottom - top)
        draft = image.draft(None, (math.ceil(across), math.ceil(down)))
        shrunk = width / draft[1][2] if draft else 1
        box = (left / shrunk, top / shrunk, right / shrunk, bottom / shrunk)
        return to_rgb(image).resize((size, size), FILTERS[interpolation], box=box)
