"""Datasets of pictures that stay on disk: where they are, and the crops that networks see of them.

A source is a sequence of (bytes of a picture file, label) with random access, so the order of training
is free and a run resumes at any picture. Whatever the dataset, Pillow decodes: every colour mode becomes
RGB, and the EXIF orientation of JPEG files is ignored, as the ImageNet pipelines do.
"""

import hashlib
import io
import math
import os
import pathlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resv2.choices import check_choice
from keras_resv2.images import to_rgb
from train.data.tfds_records import TfdsRecords

PICTURE_DATASETS = ("folder", "imagenette", "imagenet2012")
TEST_FOLDERS = ("val", "validation", "test")

# Szegedy et al. 2015, section 6: share of the picture's area, and width / height, of the training crop.
AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
# JPEG's decoder may halve a picture (or more) that keeps this many times the crop's pixels along each side: the
# filter of the scaling that follows then hides the decoder's.
DRAFT_SPARE = 2
FINGERPRINTED = 1000


def open_source(dataset, data_dir, split, cache=False):
    """The pictures of one split, not yet decoded.

    Args:
        dataset: "folder": `data_dir` holds `train/` and one of `val/`, `validation/`, `test/`, each with
            one folder of picture files per class; "imagenette" or "imagenet2012": `data_dir` is a
            tensorflow-datasets directory that holds it.
        data_dir: the directory.
        split: "train" or "test".
        cache: whether to keep in memory, still encoded, what was read once.

    Returns:
        A source: `len(source)`; `source[i]`, which is ``(bytes, label)``; `source.class_names`;
        `source.name`, which dataset this is; `source.place(i)`, where picture `i` is, for messages.

    Raises:
        FileNotFoundError: `data_dir` does not exist.
        ValueError: there is no such dataset or split, or `data_dir` does not hold it.
        ImportError: the dataset takes tensorflow-datasets, and it is not installed.

    Example:

    >>> encoded, label = open_source("folder", "flowers", "train")[0]  # doctest: +SKIP
    """
    check_choice("dataset", dataset, PICTURE_DATASETS)
    check_choice("split", split, ("train", "test"))
    if data_dir is None:
        raise ValueError(f"dataset {dataset!r} needs a data_dir: it is read from disk.")
    if not os.path.isdir(data_dir):
        raise FileNotFoundError(f"data_dir {data_dir} is no directory that exists.")
    source = Folder(data_dir, split) if dataset == "folder" else TfdsRecords(dataset, data_dir, split)
    return Cached(source) if cache else source


class Folder:
    """Picture files, one folder per class: a source, as `open_source` returns, with the same arguments.

    The classes of both splits are those of `train/`, sorted; the files of a class are sorted too.

    Raises:
        ValueError: a folder or its pictures are missing, or `train/` lacks a class of the test pictures.
    """

    name = "folder"

    def __init__(self, data_dir, split):
        train = pathlib.Path(data_dir, "train")
        self.class_names = _classes(train)
        folder = train if split == "train" else _test_folder(data_dir)
        classes = _classes(folder)
        unknown = sorted(set(classes) - set(self.class_names))
        if unknown:
            raise ValueError(f"{folder} has the class {unknown[0]!r}, which {train} does not have.")
        files = [_picture_files(folder / name) for name in classes]
        numbers = [self.class_names.index(name) for name in classes]
        self._paths = [path for of_class in files for path in of_class]
        self._labels = np.repeat(np.asarray(numbers, "int32"), [len(of_class) for of_class in files])

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, i):
        """``(bytes of the picture file, label)`` of picture `i`."""
        with open(self._paths[i], "rb") as file:
            return file.read(), self._labels[i]

    def place(self, i):
        """Path of picture `i`."""
        return self._paths[i]


def _classes(folder):
    if not folder.is_dir():
        raise ValueError(f"{folder.parent} holds no folder {folder.name}/ with one folder of pictures per class.")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} holds no class folders: it needs one folder of pictures per class.")
    return tuple(names)


def _test_folder(data_dir):
    for folder in (pathlib.Path(data_dir, name) for name in TEST_FOLDERS):
        if folder.is_dir():
            return folder
    raise ValueError(f"{data_dir} holds no pictures to test on: it needs a folder val/, validation/ or test/.")


def _picture_files(folder):
    """Sorted paths of the pictures in a class folder and in the folders below it."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in endings and not name.startswith(".")
    )
    if not paths:
        raise ValueError(f"class folder {folder} holds no pictures.")
    return paths


class Cached:
    """A source that keeps in memory what it has read of another source."""

    def __init__(self, source):
        self.name, self.class_names, self.place = source.name, source.class_names, source.place
        self._source, self._kept = source, [None] * len(source)

    def __len__(self):
        return len(self._kept)

    def __getitem__(self, i):
        if self._kept[i] is None:
            self._kept[i] = self._source[i]
        return self._kept[i]


def fingerprint(source):
    """SHA-256, in hex, of which pictures these are: their number, the classes, and about a thousand of them.

    Args:
        source: as `open_source` returns.
    """
    digest = hashlib.sha256(repr((len(source), source.class_names)).encode())
    for i in range(0, len(source), math.ceil(len(source) / FINGERPRINTED)):
        encoded, label = source[i]
        digest.update(encoded + bytes(str(int(label)), "ascii"))
    return digest.hexdigest()


def read_crop(source, i, crop):
    """The crop and the label of picture `i`.

    Args:
        source: as `open_source` returns.
        i: position in it.
        crop: function from the bytes of a picture file to uint8 ``(size, size, 3)``.

    Returns:
        ``(crop, label)``.

    Raises:
        ValueError: it is no picture, or a damaged one; the message says where it is.
    """
    encoded, label = source[i]
    try:
        return crop(encoded), label
    except Exception as error:  # Pillow's decoders raise many types; all mean a picture that cannot be read
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{source.place(i)} is not a picture that can be read: {reason}.") from None


def random_crop(encoded, size, rng):
    """The crop of training: `random_box` of a picture, scaled, and half the time mirrored left-right.

    Args:
        encoded: bytes of a picture file.
        size: side of the crop in pixels.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 ``(size, size, 3)``, 0 to 255.
    """
    crop = _cut(encoded, size, lambda width, height: random_box(width, height, rng))
    return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def centre_crop(encoded, shorter_side, size):
    """The crop of testing: the middle of a picture scaled to a shorter side.

    Args:
        encoded: bytes of a picture file.
        shorter_side: of the scaled picture, in pixels.
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
        width, height: of the picture, in pixels.
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
    """The box of a picture that is its centre crop of `size` when it is scaled to `shorter_side`.

    It begins at a whole pixel of the scaled picture, as if that were made first and cut then.

    Args:
        width, height: of the picture, in pixels.
        shorter_side, size: in pixels of the scaled picture.

    Returns:
        (left, top, right, bottom) in pixels of the picture, with fractions.
    """
    shorter = min(width, height)
    left, top = (round((edge * shorter_side // shorter - size) / 2) for edge in (width, height))
    return tuple(edge * shorter / shorter_side for edge in (left, top, left + size, top + size))


def _cut(encoded, size, choose_box):
    """The box of a picture that `choose_box(width, height)` names, scaled to `size` in one pass."""
    with Image.open(io.BytesIO(encoded)) as picture:
        width, height = picture.size
        left, top, right, bottom = choose_box(width, height)
        needed = (DRAFT_SPARE * size * width / (right - left), DRAFT_SPARE * size * height / (bottom - top))
        draft = picture.draft(None, tuple(map(math.ceil, needed)))
        shrunk = width / draft[1][2] if draft else 1
        box = [edge / shrunk for edge in (left, top, right, bottom)]
        return to_rgb(picture).resize((size, size), Image.Resampling.BILINEAR, box=box)
