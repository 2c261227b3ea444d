"""Random crops of image files for training: scale and aspect-ratio augmentation."""

import math

import numpy as np
from PIL import ImageOps

from keras_resv2.data.crops import center_box, cut

# Szegedy et al. 2015, section 6: fraction of the image's area, and width / height, of the training crop.
AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


def random_crop(encoded, size, rng):
    """Returns a training crop: the resized `random_box` of an image, flipped horizontally half of the time.

    Args:
        encoded: bytes of an image file.
        size: side of the crop in pixels.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.
    """
    crop = cut(encoded, size, lambda width, height: random_box(width, height, rng))
    return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


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
    return center_box(width, height, side, side)
