"""Reads images as networks expect them, and draws images with predictions."""

import io
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from keras_resv2.argument_checks import check_choice, first_line, warn_caller
from keras_resv2.files import atomic_write, open_regular

# Supported image formats, if Pillow was built with them. Others are excluded because they run external programs (EPS)
# or are rarely used.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PCX")
FORMATS += ("SGI", "QOI", "PSD", "DDS", "XBM", "XPM", "SUN")
ROWS = 256
ORIENTATION = 0x0112  # EXIF tag (CIPA DC-008, table 4), and the operation that makes each orientation upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAMPLE_FORMAT, SIGNED = (
    339,
    "signed",
)  # TIFF tag: 1 unsigned, 2 signed, 3 float; and the key of `info` for signed images
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SAVED_AS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def read_image(
    path: str | os.PathLike, size: tuple[int, int], crop: float = 1.0, interpolation: str = "bicubic"
) -> np.ndarray:
    """Reads an image of any size and common format as an array.

    The image is rotated according to its EXIF orientation, blended with white where transparent, resized so that its
    short side fits, and center-cropped. An image that already has the size is not changed.

    ImageNet networks are tested on smaller crops: ``read_image(path, **pretrained_card(name).image_options)`` reads an
    image as they were.

    Args:
        path: path of the file.
        size: (height, width) in pixels.
        crop: fraction of the short side that the result shows, above 0 and at most 1; timm's ``crop_pct``.
        interpolation: "bicubic" or "bilinear".

    Returns:
        uint8 ``(height, width, 3)``, 0 to 255.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not an image of one of `FORMATS`, has more than `PIL.Image.MAX_IMAGE_PIXELS` pixels, or is
            damaged; or if `crop` or `interpolation` is not valid.

    Example:

    >>> read_image("cat.jpg", (32, 32)).shape  # doctest: +SKIP
    (32, 32, 3)
    """
    check_size(size)
    check_choice("interpolation", interpolation, FILTERS)
    if not 0 < crop <= 1:
        raise ValueError(f"crop={crop} must be a fraction of the short side, above 0 and at most 1.")
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"image {path} does not exist.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass the images in it.")
    try:
        with open_regular(path, most_bytes()) as content, open_image(content) as file:
            image = to_rgb(upright(file))
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else first_line(error).rstrip(".")
        raise ValueError(f"{path} is not a readable image: {reason}.") from None
    return np.array(fitted(image, size, crop, interpolation))  # a copy, because Pillow's bytes are read-only


def decode_image(
    encoded: bytes, place: str, size: tuple[int, int] | None = None, crop: float = 1.0, interpolation: str = "bicubic"
) -> np.ndarray:
    """Decodes an image to an RGB array; the EXIF orientation of JPEG files is ignored.

    Args:
        encoded: bytes of an image file.
        place: where the bytes come from, for the message.
        size: (height, width) in pixels, see `read_image`; None for the image's own size.
        crop, interpolation: see `read_image`.

    Returns:
        uint8 ``(height, width, 3)``, 0 to 255.

    Raises:
        ValueError: if it is not an image or is damaged.
    """
    try:
        with open_image(io.BytesIO(encoded)) as file:
            image = to_rgb(file)
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else first_line(error).rstrip(".")
        raise ValueError(f"{place} is not a readable image: {reason}.") from None
    return np.array(image if size is None else fitted(image, size, crop, interpolation))


def open_image(file: BinaryIO) -> Image.Image:
    """Opens an untrusted image: `PIL.Image.open` for the common formats, within Pillow's size limit.

    Args:
        file: binary file object.

    Returns:
        `PIL.Image.Image`, not decoded yet.

    Raises:
        ValueError: if it has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, above which Pillow warns.
        PIL.UnidentifiedImageError: if it is not an image of one of `FORMATS`.
    """
    Image.init()
    image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    image.info[SIGNED] = 2 in np.ravel(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, 1))
    width, height = image.size
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        image.close()
        raise ValueError(f"it has {width} x {height} pixels, the limit is {most:,} (PIL.Image.MAX_IMAGE_PIXELS)")
    return image


def most_bytes() -> int | None:
    """Returns the maximum file size: uncompressed 16-bit pixels with four channels."""
    return None if Image.MAX_IMAGE_PIXELS is None else 8 * Image.MAX_IMAGE_PIXELS


def upright(image: Image.Image) -> Image.Image:
    """Rotates a Pillow image according to its EXIF orientation.

    `PIL.ImageOps.exif_transpose` also rewrites the other tags, and fails on photographs with a tag that Pillow can read
    but not write. Here only the pixels are rotated. Unreadable EXIF data is ignored.
    """
    image.load()  # before the orientation is read: Pillow rotates TIFF images itself while it decodes them
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # as many types as for decoding pixels
        return image
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def fitted(image: Image.Image, size: Sequence[int], crop: float = 1.0, interpolation: str = "bicubic") -> Image.Image:
    """Resizes a Pillow image so that a fraction of its short side fits (height, width), and center-crops it."""
    height, width = size
    if crop == 1:
        same = image.size == (width, height)
        return image if same else ImageOps.fit(image, (width, height), FILTERS[interpolation])
    box = center_box(*image.size, math.floor(min(size) / crop), size)
    return image.resize((width, height), FILTERS[interpolation], box)


def center_box(
    width: int, height: int, shorter_side: int, size: int | Sequence[int]
) -> tuple[float, float, float, float]:
    """Returns the box of an image that becomes its center crop when it is resized to `shorter_side`.

    The box starts at a whole pixel of the resized image, as if the image were resized first and cropped afterwards.

    Args:
        width, height: size of the image, in pixels.
        shorter_side: in pixels of the resized image: that of the smallest image of the crop's shape that covers it.
        size: side of the crop, or its (height, width), in pixels of the resized image.

    Returns:
        (left, top, right, bottom) in fractional pixels of the image.

    Example:

    >>> center_box(500, 375, 256, 224)[:2]
    (84.9609375, 23.4375)
    """
    high, wide = (size, size) if isinstance(size, int) else size
    edge, of_crop = (width, wide) if width * high <= height * wide else (height, high)  # which the crop spans
    pixels, resized = edge * min(high, wide), of_crop * shorter_side  # the same length, in the image and resized
    left = round((width * resized // pixels - wide) / 2)
    top = round((height * resized // pixels - high) / 2)
    left, top, right, bottom = (place * pixels / resized for place in (left, top, left + wide, top + high))
    return left, top, right, bottom


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _grey(image).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey(image):
    """Converts a grayscale image of floats (0 to 1 or 0 to 255) or 8-, 16- or 32-bit integers to 8 bits."""
    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 255):  # NaN too
            raise ValueError(
                f"its pixels range from {low:.3g} to {high:.3g}: floats must be from 0 to 1 or from 0 to 255"
            )
        factor = 255 if high <= 1 else 1
    else:
        signed = image.info.get(SIGNED, False)
        if image.mode == "I" and not signed and values.min() < 0:
            values = values.view("uint32")
        high = int(values.max())
        if values.min() < 0:
            raise ValueError(f"its pixels range from {values.min()} to {high}: negative values are not supported")
        eight = image.mode == "I" and high <= 255
        factor = 1 if eight else 255 / (65535 if high <= 65535 else 2**31 - 1 if signed else 2**32 - 1)
    grey = np.empty(values.shape, "uint8")
    for start in range(0, len(values), ROWS):  # in chunks: the product takes eight bytes per pixel
        rows = slice(start, start + ROWS)
        grey[rows] = (values[rows].astype("float64") * factor).clip(0, 255).round()
    return Image.fromarray(grey)


def check_size(size: Any) -> None:
    """Raises ValueError unless an image size is a pair, (height, width)."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size={size!r} must be (height, width).")


def prepare_images(images: Any, size: tuple[int, int]) -> np.ndarray:
    """Converts arrays of images to the three channels and the size that a network expects.

    Args:
        images: uint8 ``(n, h, w)``, ``(n, h, w, 1)`` or ``(n, h, w, 3)``, 0 to 255; or a list of images of different
            sizes.
        size: (height, width) of the result in pixels. The images are resized to fit the short side (bicubic) and
            center-cropped.

    Returns:
        uint8 ``(n, height, width, 3)``.

    Raises:
        ValueError: if the arrays have another shape or dtype.

    Example:

    >>> prepare_images(np.zeros((2, 28, 28), "uint8"), (32, 32)).shape
    (2, 32, 32, 3)
    """
    check_size(size)
    if isinstance(images, (list, tuple)) and len({np.shape(image) for image in images}) > 1:
        return np.concatenate([prepare_images(np.asarray(image)[None], size) for image in images])
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[2] in (3, 4):
        raise ValueError(
            f"images have the shape {images.shape}: turn a single image into a batch of one with images[None]."
        )
    if images.ndim == 3 and len(images) == 3:
        warn_caller(
            f"images {images.shape} are converted as three grayscale images. If they are the channels of one image, "
            "pass images.transpose(1, 2, 0)[None]; otherwise images[..., None] avoids this warning.",
        )
    if images.dtype != np.uint8:
        raise ValueError(
            f"images have the dtype {images.dtype}: pixels must be uint8, 0 to 255 (scale them, then .astype('uint8'))."
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise ValueError(
            f"images have the shape {images.shape}: it must be (n, h, w), (n, h, w, 1) or (n, h, w, 3)"
            f"{channels_hint(images.shape)}."
        )
    if not len(images):
        return np.empty((0, *size, 3), "uint8")
    return np.stack([np.asarray(fitted(to_rgb(Image.fromarray(image)), size)) for image in images])


def channels_hint(shape: Sequence[int], expected: Sequence[int | None] = (None, None, 3)) -> str:
    """Returns a hint for messages about images with the channels in the wrong position; otherwise empty.

    Args:
        shape: of the images, with the batch.
        expected: shape of an image of the model.

    Example:

    >>> channels_hint((8, 3, 32, 32)), channels_hint((8, 32, 32, 4))
    (': x.transpose(0, 2, 3, 1) moves the channels last', '')
    >>> channels_hint((8, 32, 32, 3), (3, None, None))
    ': x.transpose(0, 3, 1, 2) moves the channels first'
    """
    first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    last = len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
    if len(expected) == 3 and expected[0] in (1, 3) and expected[2] not in (1, 3):
        return ": x.transpose(0, 3, 1, 2) moves the channels first" if last else ""
    return ": x.transpose(0, 2, 3, 1) moves the channels last" if first else ""


def draw_predictions(
    images: Sequence[np.ndarray] | np.ndarray,
    predictions: Sequence[Sequence[tuple[str, float]]],
    path: str | os.PathLike,
    captions: Sequence[object] | None = None,
    columns: int = 4,
    shown: int = 3,
) -> None:
    """Draws images with their most likely labels and bars of their probabilities.

    Args:
        images: uint8 arrays ``(height, width, 3)``.
        predictions: for each image, a list of (label, probability), most likely first.
        path: path of the image to write; its extension selects the format.
        captions: for each image, a line of text above it; or None.
        columns: number of images per row.
        shown: number of labels per image.

    Raises:
        ValueError: if the extension is not supported.
        OSError: if the file cannot be written.
    """
    check_ending(path)
    side, text, line, margin = 128, 190, 24, 14
    cell = (side + text + 3 * margin, side + line + 2 * margin)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (min(columns, len(images)) * cell[0], rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for i, (image, ranked) in enumerate(zip(images, predictions, strict=True)):
        left, top = i % columns * cell[0] + margin, i // columns * cell[1] + margin
        if captions:
            draw.text((left, top), str(captions[i])[:42], "black", font=font)
        shown_image = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(shown_image, (left, top + line))
        for k, (label, probability) in enumerate(ranked[:shown]):
            x, y = left + side + margin, top + line + k * 42
            draw.text((x, y), f"{label}  {100 * probability:.1f} %", "black", font=font)
            draw.rectangle((x, y + 21, x + text, y + 31), outline="#cccccc")
            draw.rectangle((x, y + 21, x + round(text * probability), y + 31), fill="#2a6fbb" if k == 0 else "#9fbfdf")
    with atomic_write(path) as partial:
        sheet.save(partial, format=Image.registered_extensions()[pathlib.Path(path).suffix.lower()])


def check_ending(path: str | os.PathLike) -> None:
    """Raises ValueError unless the extension is a supported image format."""
    if pathlib.Path(path).suffix.lower() not in SAVED_AS:
        raise ValueError(f"{path}: the extension must be one of {', '.join(SAVED_AS)}.")
