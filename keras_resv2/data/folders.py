"""Folders of images, one folder per class: which files are read, as what class, in which order."""

import dataclasses
import os
import pathlib
import warnings

import numpy as np
from PIL import Image

from keras_resv2.argument_checks import check_choice, some
from keras_resv2.data.images import most_bytes, read_image
from keras_resv2.data.splits import TEST, TRAIN, assign_splits, is_hidden, names_a_split
from keras_resv2.files import open_regular

NO_IMAGES = (".txt", ".csv", ".json", ".md", ".db", ".ini")  # files that may stand beside images


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of a folder that has one folder per class, sorted by class and path.

    Attributes:
        class_names: in the order of the labels.
        paths: of all files that are not known to be something else than images.
        labels: int32 ``(n,)``, positions in `class_names`.
        readable: bool ``(n,)``: whether the ending of the file is one that Pillow reads.
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    readable: np.ndarray


def find_splits(folder):
    """The split folders in a folder, by the rule of `keras_resv2.data.splits`.

    Args:
        folder: its path. Split folders may be spelt ``train``, ``Train``, ``training``, ``seg_train``;
            ``test``, ``testing``; ``val``, ``valid``, ``validation``, ``eval``, ``dev``.

    Returns:
        Dictionary from "train", "test" and "validation" to paths, of those there are; empty where the folder
        has no splits.

    Raises:
        ValueError: two folders name the same split, or folders look like splits and none of the spellings
            above is theirs.

    Example:

    >>> find_splits("flowers")["test"]  # doctest: +SKIP
    PosixPath('flowers/test')
    """
    folder = pathlib.Path(folder)
    names = _folders(folder)
    try:
        splits = assign_splits(names)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    if len(splits) > 1:
        return {kind: folder / name for kind, name in splits.items()}
    _check_no_other_splits(folder, names)
    # A single folder "train" is a split where all there is are its class folders, and a class among others.
    return {kind: folder / name for kind, name in splits.items() if len(names) == 1 and _folders(folder / name)}


def class_folders(folder):
    """Names of the folders that may be class folders: those in a folder, and those in its split folders.

    Args:
        folder: its path.

    Returns:
        Set of names, which may be of anything.

    Example:

    >>> class_folders("flowers")  # doctest: +SKIP
    {'daisy', 'tulip'}
    """
    folder = pathlib.Path(folder)
    names = set(_folders(folder))
    return names.union(*(_folders(folder / name) for name in names if names_a_split(name)))


def _check_no_other_splits(folder, names):
    """Raises ValueError where folders have folders of the same names in them, and the name of one means a split."""
    inside = {name: set(_folders(folder / name)) for name in names}
    for name in (name for name in names if names_a_split(name)):
        for other in names:
            shared = sorted(inside[name] & inside[other])
            if other != name and shared:
                raise ValueError(
                    f"{folder}: {name} and {other} both hold a folder {shared[0]}, so they look like splits and not "
                    "like classes: call them train, val and test."
                )


def scan_classes(folder, class_names=None):
    """Finds the files of a folder that has one folder per class. Nothing is opened.

    Folders in class folders are searched too. Hidden files and folders are passed over
    (`keras_resv2.data.splits.is_hidden`), and text files.

    Args:
        folder: its path.
        class_names: the classes, in their order, of which some may be missing; None for all folders, sorted.

    Returns:
        `ClassFolders`.

    Raises:
        ValueError: it has no class folders, or split folders; a class folder has no files, or is none of
            the classes.

    Example:

    >>> scan_classes("flowers/train").class_names  # doctest: +SKIP
    ('daisy', 'tulip')
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder.parent} holds no folder {folder.name}/ with one folder of images per class.")
    folders, splits = _folders(folder), find_splits(folder)
    if splits:
        raise ValueError(
            f"{folder} holds {' and '.join(path.name for path in splits.values())}, each with class folders: name one "
            f"of them, as {next(iter(splits.values()))}."
        )
    if not folders:
        raise ValueError(f"{folder} holds no class folders: it needs one folder of images per class.")
    unknown = [name for name in folders if class_names is not None and name not in class_names]
    if unknown:
        raise ValueError(f"{folder} has {some(unknown)}, none of the classes {some(list(class_names))}: remove it.")
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    class_names = tuple(folders) if class_names is None else tuple(class_names)
    for name in folders:
        if class_names.count(name) > 1:
            raise ValueError(f"{folder}: several classes are called {name}, so its images have no one label.")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        found = _files(folder / name) if name in folders else []
        if name in folders and not found:
            raise ValueError(f"class folder {folder / name} holds no images: every class needs some.")
        paths += found
        labels += [label] * len(found)
    readable = np.array([_ending(path) in endings for path in paths])
    return ClassFolders(class_names, tuple(paths), np.array(labels, "int32"), readable)


def _folders(folder):
    """Sorted names of the folders in a folder, but for hidden ones; none of a file."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _files(folder):
    """Sorted paths of the files of a class."""
    paths = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        paths += [
            os.path.join(parent, name) for name in names if not is_hidden(name) and _ending(name) not in NO_IMAGES
        ]
    return sorted(paths)


def _ending(path):
    return os.path.splitext(path)[1].lower()


class FolderSource:
    """Image files of a split, not yet decoded: a source, as `keras_resv2.data.sources.open_source` returns.

    The classes of both splits are those of the training images.

    Args:
        data_dir: folder with split folders.
        split: "train" or "test".

    Raises:
        ValueError: a split or its images are missing, or the training images lack a class of the test images.
    """

    name = "folder"

    def __init__(self, data_dir, split):
        splits = find_splits(data_dir)
        train = scan_classes(splits.get(TRAIN, pathlib.Path(data_dir, TRAIN)))
        self.class_names = train.class_names
        if split == TEST and TEST not in splits:
            raise ValueError(f"{data_dir} holds no images to test on: it needs a folder test/ or val/.")
        found = _images(train if split == TRAIN else scan_classes(splits[TEST], self.class_names))
        self._paths, self._labels = found.paths, found.labels

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, i):
        """``(bytes of the image file, label)`` of image `i`."""
        with open_regular(self._paths[i], most_bytes()) as file:
            return file.read(), self._labels[i]

    def place(self, i):
        """Path of image `i`."""
        return self._paths[i]


def _images(found):
    """Those files that Pillow reads by their ending: the others would stop a training in its midst."""
    kept = np.flatnonzero(found.readable)
    if len(kept) < len(found.paths):
        others = [found.paths[i] for i in np.flatnonzero(~found.readable)]
        warnings.warn(
            f"{len(others)} files are left out, Pillow reads none of their kind: {some(others)}", stacklevel=4
        )
    for label, name in enumerate(found.class_names):
        if (found.labels == label).any() and not (found.labels[kept] == label).any():
            path = found.paths[np.flatnonzero(found.labels == label)[0]]
            raise ValueError(f"class folder of {name} holds no images that Pillow reads: it has {path}.")
    return ClassFolders(
        found.class_names, tuple(found.paths[i] for i in kept), found.labels[kept], found.readable[kept]
    )


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Images of a folder, decoded.

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
    """Reads a folder that has one folder of images per class.

    Images may have any size and any format that Pillow reads, grey or coloured: see `keras_resv2.read_image`.

    Args:
        folder: its path. Folders in the class folders are searched too; hidden files and folders, and text
            files, are passed over.
        size: (height, width) of the images wanted, in pixels.
        damaged: what to do about a file that is not an image: "skip" it, or "raise" an error.
        class_names: the classes, in their order; None for all folders, sorted.

    Returns:
        `ImageFolder`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class folders, a class has no images, a folder is none of the classes, it is
            train/ and test/ that have the class folders, or an image is damaged.

    Example:

    >>> found = read_folder("flowers", (32, 32))  # doctest: +SKIP
    >>> fine_tune(model, (found.images, found.labels))  # doctest: +SKIP
    """
    folder = pathlib.Path(folder)
    check_choice("damaged", damaged, ("skip", "raise"))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder that exists: name one with a folder of images per class.")
    if None in size:
        raise ValueError(f"size={tuple(size)} must name height and width: images of a folder have many sizes.")
    files = scan_classes(folder, class_names)
    if len(files.class_names) < 2:
        raise ValueError(f"{folder} holds 1 folder, {files.class_names[0]}: it needs one folder of images per class.")
    images, kept, problems = [], [], []
    for i, path in enumerate(files.paths):
        try:
            images.append(read_image(path, size))
            kept.append(i)
        except ValueError as error:
            if damaged == "raise":
                raise ValueError(f'{error} damaged="skip" leaves such files out.') from None
            problems.append(str(error))
    labels = files.labels[kept]
    for label in sorted(set(files.labels) - set(labels)):
        raise ValueError(f"class folder {folder / files.class_names[label]} holds no images: every class needs some.")
    paths = tuple(os.path.relpath(files.paths[i], folder) for i in kept)
    return ImageFolder(np.stack(images), labels, files.class_names, paths, tuple(problems))
