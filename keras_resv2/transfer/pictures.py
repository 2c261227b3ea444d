"""Labelled pictures from folders, in the form that networks take."""

import dataclasses
import pathlib

import numpy as np
from PIL import Image

from keras_resv2.choices import check_choice, some
from keras_resv2.images import fitted, read_image, to_rgb

TRAIN, TEST_NAMES, VALIDATION_NAMES = "train", ("test",), ("val", "validation", "valid")
IGNORED = (".txt", ".csv", ".json", ".md", ".db", ".ini")


@dataclasses.dataclass(frozen=True)
class LabelledPictures:
    """Pictures of a folder.

    Attributes:
        images: uint8 ``(n, height, width, 3)``, 0 to 255.
        labels: int32 ``(n,)``, positions in `class_names`.
        class_names: names of the class folders, sorted.
        paths: of the files, relative to the folder.
        damaged: messages of the files that could not be read and are left out.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def read_folder(folder, size, damaged="skip", class_names=None):
    """Reads a folder that has one folder of pictures per class.

    Pictures may have any size and common format, grey or coloured: see
    `keras_resv2.images.read_image`.

    Args:
        folder: its path. Folders in the class folders are searched too; hidden files and text files are
            passed over.
        size: (height, width) of the pictures wanted, in pixels.
        damaged: what to do about a file that is no picture: "skip" it, or "raise" an error.
        class_names: the classes, in their order; None for all folders, sorted.

    Returns:
        `LabelledPictures`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class folders, a class has no pictures, a folder is none of the classes, it is
            train/ and test/ that have the class folders, or a picture is damaged.

    Example:

    >>> pictures = read_folder("flowers", (32, 32))  # doctest: +SKIP
    >>> fine_tune(model, (pictures.images, pictures.labels))  # doctest: +SKIP
    """
    folder = pathlib.Path(folder)
    check_choice("damaged", damaged, ("skip", "raise"))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder that exists: name one with a folder of pictures per class.")
    if None in size:
        raise ValueError(f"size={tuple(size)} must name height and width: pictures of a folder have many sizes.")
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if holds_parts(folder):
        raise ValueError(
            f"{folder} holds {' and '.join(folders)}, each with class folders: name one of them, as {folder / TRAIN}."
        )
    others = [name for name in folders if class_names is not None and name not in class_names]
    if others:
        raise ValueError(f"{folder} has {some(others)}, none of the classes {some(list(class_names))}: take it away.")
    class_names = folders if class_names is None else class_names
    if len(class_names) < 2:
        raise ValueError(f"{folder} holds {len(class_names)} folders: it needs one folder of pictures for each class.")
    images, labels, paths, problems = [], [], [], []
    for label, name in enumerate(class_names):
        before = len(images)
        for path in _files(folder / name):
            try:
                images.append(read_image(path, size))
            except ValueError as error:
                if damaged == "raise":
                    raise ValueError(f'{error} damaged="skip" leaves such files out.') from None
                problems.append(str(error))
                continue
            labels.append(label)
            paths.append(str(path.relative_to(folder)))
        if len(images) == before:
            raise ValueError(f"{folder / name} holds no picture: every class needs some.")
    return LabelledPictures(
        np.stack(images), np.array(labels, "int32"), tuple(class_names), tuple(paths), tuple(problems)
    )


def holds_parts(folder):
    """Whether a folder has ``train/``, and ``test/`` or validation pictures, each with class folders of its own."""
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    return TRAIN in inside and bool(inside & {*TEST_NAMES, *VALIDATION_NAMES})


def _files(folder):
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "." and path.suffix.lower() not in IGNORED
    )


def prepare_images(images, size):
    """Arrays of pictures as a network takes them: three channels, its size.

    Args:
        images: uint8 ``(n, h, w)``, ``(n, h, w, 1)`` or ``(n, h, w, 3)``, 0 to 255.
        size: (height, width) wanted, in pixels. The short side is scaled to it (bicubic), and the middle
            taken.

    Returns:
        uint8 ``(n, height, width, 3)``.

    Raises:
        ValueError: they are no such arrays.

    Example:

    >>> prepare_images(np.zeros((2, 28, 28), "uint8"), (32, 32)).shape
    (2, 32, 32, 3)
    """
    images = np.asarray(images)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size={size!r} must be (height, width).")
    if images.ndim == 3 and images.shape[2] in (3, 4):
        raise ValueError(f"images are {images.shape}: a single picture becomes the only one by images[None].")
    if images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype}: pixels must be uint8, 0 to 255 (scale them, then .astype('uint8'))."
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise ValueError(f"images are {images.shape}: they must be (n, h, w), (n, h, w, 1) or (n, h, w, 3).")
    return np.stack([np.asarray(fitted(to_rgb(Image.fromarray(image)), size)) for image in images])


def split_pictures(labels, shares, seed=0, class_names=None):
    """Splits pictures at random, each class in the same shares.

    Args:
        labels: ``(n,)``, class numbers.
        shares: of the parts, which sum to 1.
        seed: of the order; the same seed gives the same parts.
        class_names: by class number, for messages; or None.

    Returns:
        Tuple of sorted int arrays, positions of the pictures of each part. Every part has a picture of
        each class.

    Raises:
        ValueError: shares do not sum to 1, or a class has fewer pictures than there are parts.

    Example:

    >>> train, test = split_pictures([0, 0, 0, 0, 1, 1, 1, 1], (0.75, 0.25))
    >>> len(train), len(test)
    (6, 2)
    """
    labels, shares = np.asarray(labels), np.asarray(shares, "float64")
    if (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"shares={tuple(shares)} must be positive and sum to 1.")
    rng, parts = np.random.default_rng(seed), [[] for _ in shares]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(shares):
            name = class_names[label] if class_names else label
            raise ValueError(
                f"class {name} has {len(members)} pictures, and {len(shares)} parts need at least one each: add "
                "pictures, leave the class out, or give validation pictures of your own."
            )
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        for part in range(len(shares)):  # one at least for each part, and for those after it
            least, most = part + 1, len(members) - (len(shares) - 1 - part)
            ends[part] = np.clip(ends[part], max(least, ends[part - 1] + 1 if part else 1), most)
        for part, chosen in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.extend(chosen)
    return tuple(np.sort(part) for part in parts)
