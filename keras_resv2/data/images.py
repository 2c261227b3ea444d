"""Images from files, as networks take them, and images of what networks say of them."""

import io
import os
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from keras_resv2.argument_checks import first_line
from keras_resv2.files import atomic_write, open_regular

# Formats of images that are read, where Pillow was built with them. It knows more: some run other programs (EPS), and
# most are hardly in use.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PCX")
FORMATS += ("SGI", "QOI", "PSD", "DDS", "XBM", "XPM", "SUN")
ROWS = 256
ORIENTATION = 0x0112  # tag of EXIF (CIPA DC-008, table 4), and what makes an image of each value upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAMPLE_FORMAT, SIGNED = 339, "signed"  # tag of TIFF: 1 unsigned, 2 signed, 3 float; and what is kept of it
SAVED_AS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def read_image(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """An image of any size and common format, as an array.

    Turned upright by its EXIF orientation, put on white where transparent, scaled so that its short
    side fits, and cropped in the middle. An image of the right size is not changed.

    Args:
        path: of the file.
        size: (height, width) in pixels.

    Returns:
        uint8 ``(height, width, 3)``, 0 to 255.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image of one of `FORMATS`, has more than `PIL.Image.MAX_IMAGE_PIXELS` pixels, or is
            damaged.

    Example:

    >>> read_image("cat.jpg", (32, 32)).shape  # doctest: +SKIP
    (32, 32, 3)
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"image {path} does not exist.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the images in it.")
    try:
        with open_regular(path, most_bytes()) as content, open_image(content) as file:
            image = to_rgb(upright(file))
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else first_line(error).rstrip(".")
        raise ValueError(f"{path} is not an image that can be read: {reason}.") from None
    return np.asarray(fitted(image, size))


def decode_image(encoded, place, size=None):
    """An encoded image as an array, in red, green and blue; the EXIF orientation of JPEG files is ignored.

    Args:
        encoded: bytes of an image file.
        place: where they come from, for the message.
        size: (height, width) in pixels, as `read_image` takes it; None for the image's own.

    Returns:
        uint8 ``(height, width, 3)``, 0 to 255.

    Raises:
        ValueError: it is not an image, or a damaged one.
    """
    try:
        with open_image(io.BytesIO(encoded)) as file:
            image = to_rgb(file)
    except Exception as error:  # Pillow's decoders raise many types; all mean an image that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else first_line(error).rstrip(".")
        raise ValueError(f"{place} is not an image that can be read: {reason}.") from None
    return np.asarray(image if size is None else fitted(image, size))


def open_image(file):
    """Opens an image of a stranger: `PIL.Image.open` for the common formats, within Pillow's limit of size.

    Args:
        file: binary file object.

    Returns:
        `PIL.Image.Image`, of which nothing is decoded yet.

    Raises:
        ValueError: it has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, from which on Pillow warns.
        PIL.UnidentifiedImageError: it is not an image of one of `FORMATS`.
    """
    Image.init()
    image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    image.info[SIGNED] = 2 in np.ravel(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, 1))
    width, height = image.size
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        image.close()
        raise ValueError(f"it has {width} x {height} pixels, at most {most:,} are read (PIL.Image.MAX_IMAGE_PIXELS)")
    return image


def most_bytes():
    """Size of the largest file: 16-bit pixels of four channels, not compressed."""
    return None if Image.MAX_IMAGE_PIXELS is None else 8 * Image.MAX_IMAGE_PIXELS


def upright(image):
    """A Pillow image as its EXIF orientation says that it is seen.

    `PIL.ImageOps.exif_transpose` writes the other tags anew, and fails on photographs with a tag that Pillow reads
    and cannot write. Here pixels are turned and tags are left alone. EXIF data that cannot be read says nothing.
    """
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # as many types as for pixels
        return image
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def fitted(image, size):
    """A Pillow image scaled (bicubic) so that its short side fits (height, width), and its middle."""
    height, width = size
    return image if image.size == (width, height) else ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def to_rgb(image):
    if image.mode.startswith(("I", "F")):
        return _grey(image).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey(image):
    """8 bits of an image of grey in more: floats of 0 to 1 or 0 to 255; whole numbers of 8, 16 or 32 bits."""
    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 255):  # NaN too
            raise ValueError(f"its pixels go from {low:.3g} to {high:.3g}: floats are read of 0 to 1 and of 0 to 255")
        factor = 255 if high <= 1 else 1
    else:
        signed = image.info.get(SIGNED, False)
        if image.mode == "I" and not signed and values.min() < 0:
            values = values.view("uint32")
        high = int(values.max())
        if values.min() < 0:
            raise ValueError(f"its pixels go from {values.min()} to {high}: negative ones have no colour")
        eight = image.mode == "I" and high <= 255
        factor = 1 if eight else 255 / (65535 if high <= 65535 else 2**31 - 1 if signed else 2**32 - 1)
    grey = np.empty(values.shape, "uint8")
    for start in range(0, len(values), ROWS):  # in parts: the product takes eight bytes a pixel
        rows = slice(start, start + ROWS)
        grey[rows] = (values[rows].astype("float64") * factor).clip(0, 255).round()
    return Image.fromarray(grey)


def prepare_images(images, size):
    """Arrays of images as a network takes them: three channels, its size.

    Args:
        images: uint8 ``(n, h, w)``, ``(n, h, w, 1)`` or ``(n, h, w, 3)``, 0 to 255.
        size: (height, width) wanted, in pixels. The short side is scaled to it (bicubic), and the middle
            taken.

    Returns:
        uint8 ``(n, height, width, 3)``.

    Raises:
        ValueError: they are not such arrays.

    Example:

    >>> prepare_images(np.zeros((2, 28, 28), "uint8"), (32, 32)).shape
    (2, 32, 32, 3)
    """
    images = np.asarray(images)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size={size!r} must be (height, width).")
    if images.ndim == 3 and images.shape[2] in (3, 4):
        raise ValueError(f"images are {images.shape}: a single image becomes a batch of one by images[None].")
    if images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype}: pixels must be uint8, 0 to 255 (scale them, then .astype('uint8'))."
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise ValueError(
            f"images are {images.shape}: they must be (n, h, w), (n, h, w, 1) or (n, h, w, 3)"
            f"{channels_last_hint(images.shape)}."
        )
    return np.stack([np.asarray(fitted(to_rgb(Image.fromarray(image)), size)) for image in images])


def channels_last_hint(shape):
    """What to add to a message about images of a shape that has its channels first; else nothing.

    Example:

    >>> channels_last_hint((8, 3, 32, 32)), channels_last_hint((8, 32, 32, 4))
    (': x.transpose(0, 2, 3, 1) puts the channels last', '')
    """
    first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    return ": x.transpose(0, 2, 3, 1) puts the channels last" if first else ""


def draw_predictions(images, predictions, path, captions=None, columns=4, shown=3):
    """Draws a sheet: each image with its most likely labels and bars as long as their probability.

    Args:
        images: uint8 arrays ``(height, width, 3)``.
        predictions: per image a list of (label, probability), most likely first.
        path: of the image to write; its ending is the format.
        captions: per image a line above it, or None.
        columns: images in a row.
        shown: labels per image.

    Raises:
        ValueError: the ending is none that images are saved under.
        OSError: the place cannot be written.
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


def check_ending(path):
    """Raises ValueError unless an image can be saved under this name."""
    if pathlib.Path(path).suffix.lower() not in SAVED_AS:
        raise ValueError(f"{path}: an image is saved as one of {', '.join(SAVED_AS)}.")
