"""The crops of images on disk that networks see, in training and in testing.

Pillow decodes: every colour mode becomes RGB, and the EXIF orientation of JPEG files is ignored, as the
ImageNet pipelines do.
"""

import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resv2.data.images import open_image, to_rgb

# Szegedy et al. 2015, section 6: share of the image's area, and width / height, of the training crop.
AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
# JPEG's decoder may halve an image (or more) that keeps this many times the crop's pixels along each side: the
# filter of the scaling that follows then hides the decoder's.
DRAFT_SPARE = 2


def read_crop(source, i, crop):
    """The crop and the label of image `i`.

    Args:
        source: as `keras_resv2.data.sources.open_source` returns.
        i: position in it.
        crop: function from the bytes of an image file to uint8 ``(size, size, 3)``.

    Returns:
        ``(crop, label)``.

    Raises:
        ValueError: it is no image, or a damaged one; the message says where it is.
    """
    encoded, label = source[i]
    try:
        return crop(encoded), label
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{source.place(i)} is not an image that can be read: {reason}.") from None


def random_crop(encoded, size, rng):
    """The crop of training: `random_box` of an image, scaled, and half the time mirrored left-right.

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
    """The crop of testing: the middle of an image scaled to a shorter side.

    Args:
        encoded: bytes of an image file.
        shorter_side: of the scaled image, in pixels.
        size: side of the crop in pixels, at most `shorter_side`.

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.
    """
    return np.asarray(_cut(encoded, size, lambda width, height: centre_box(width, height, shorter_side, size)))


def random_box(width, height, rng):
    """Scale and aspect-ratio augmentation (Szegedy et al. 2015): a box of 8 to 100 % of the area.

    The logarithm of the aspect ratio is uniform, as in torchvision. Ten boxes may not fit; the box is
    then the largest square in the middle, as in fb.resnet.torch.

    Args:
        width, height: of the image, in pixels.
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
    """The box of an image that is its centre crop of `size` when it is scaled to `shorter_side`.

    It begins at a whole pixel of the scaled image, as if that were made first and cut then.

    Args:
        width, height: of the image, in pixels.
        shorter_side, size: in pixels of the scaled image.

    Returns:
        (left, top, right, bottom) in pixels of the image, with fractions.
    """
    shorter = min(width, height)
    left, top = (round((edge * shorter_side // shorter - size) / 2) for edge in (width, height))
    return tuple(edge * shorter / shorter_side for edge in (left, top, left + size, top + size))


def _cut(encoded, size, choose_box):
    """The box of an image that `choose_box(width, height)` names, scaled to `size` in one pass."""
    with open_image(io.BytesIO(encoded)) as image:
        width, height = image.size
        left, top, right, bottom = choose_box(width, height)
        needed = (DRAFT_SPARE * size * width / (right - left), DRAFT_SPARE * size * height / (bottom - top))
        draft = image.draft(None, tuple(map(math.ceil, needed)))
        shrunk = width / draft[1][2] if draft else 1
        box = [edge / shrunk for edge in (left, top, right, bottom)]
        return to_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
