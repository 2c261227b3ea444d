"""Crops of image files for training and testing.

Pillow decodes the images and converts every color mode to RGB; the EXIF orientation of JPEG files is ignored, as in
ImageNet pipelines.
"""

import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resv2.data.images import open_image, to_rgb

# Szegedy et al. 2015, section 6: share of the image's area, and width / height, of the training crop.
AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
# The JPEG decoder may downscale an image by powers of two as long as it keeps this many times the crop's pixels along
# each side: the filter of the subsequent resize then hides that of the decoder.
DRAFT_SPARE = 2


def read_crop(source, i, crop):
    """Reads the crop and the label of image `i`.

    Args:
        source: see `keras_resv2.data.sources.open_source`.
        i: position of the image.
        crop: function from the bytes of an image file to uint8 ``(size, size, 3)``.

    Returns:
        ``(crop, label)``.

    Raises:
        ValueError: if it is not an image or is damaged; the message has its location.
    """
    encoded, label = source[i]
    try:
        return crop(encoded), label
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{source.place(i)} is not a readable image: {reason}.") from None


def random_crop(encoded, size, rng):
    """Returns a training crop: the resized `random_box` of an image, flipped horizontally half of the time.

    Args:
        encoded: bytes of an image file.
        size: side of the crop in pixels.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.
    """
    crop = _cut(encoded, size, lambda width, height: random_box(width, height, rng))
    return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def centre_crop(encoded, shorter_side, size):
    """Returns a test crop: the center of an image resized to a shorter side.

    Args:
        encoded: bytes of an image file.
        shorter_side: shorter side of the resized image, in pixels.
        size: side of the crop in pixels, at most `shorter_side`.

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.
    """
    return np.asarray(_cut(encoded, size, lambda width, height: centre_box(width, height, shorter_side, size)))


def random_box(width, height, rng):
    """Draws a box of 8 to 100 % of the area: scale and aspect-ratio augmentation (Szegedy et al. 2015).

    The logarithm of the aspect ratio is uniform, as in torchvision. If ten boxes do not fit, the largest centered
    square is used, as in fb.resnet.torch.

    Args:
        width, height: size of the image, in pixels.
        rng: `numpy.random.Generator`.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(*map(math.log, ASPECT)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    side = min(width, height)
    return centre_box(width, height, side, side)


def centre_box(width, height, shorter_side, size):
    """Returns the box of an image that is its center crop of `size` after resizing to `shorter_side`.

    It starts at a whole pixel of the resized image, as if the image were resized first and then cropped.

    Args:
        width, height: size of the image, in pixels.
        shorter_side, size: in pixels of the resized image.

    Returns:
        (left, top, right, bottom) in fractional pixels of the image.
    """
    shorter = min(width, height)
    left, top = (round((edge * shorter_side // shorter - size) / 2) for edge in (width, height))
    return tuple(edge * shorter / shorter_side for edge in (left, top, left + size, top + size))


def _cut(encoded, size, choose_box):
    """Resizes the box of an image chosen by `choose_box(width, height)` to `size` in one pass."""
    with open_image(io.BytesIO(encoded)) as image:
        width, height = image.size
        left, top, right, bottom = choose_box(width, height)
        needed = (DRAFT_SPARE * size * width / (right - left), DRAFT_SPARE * size * height / (bottom - top))
        draft = image.draft(None, tuple(map(math.ceil, needed)))
        shrunk = width / draft[1][2] if draft else 1
        box = [edge / shrunk for edge in (left, top, right, bottom)]
        return to_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
