"""Folders of images with one folder per class: which files are read, their classes and their order."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_resv2.argument_checks import check_choice, check_count, some, warn_caller
from keras_resv2.data.images import FORMATS, check_size, most_bytes, read_image
from keras_resv2.data.splits import TEST, TRAIN, assign_splits, evenly_spaced, is_hidden, names_a_split
from keras_resv2.files import open_regular

NO_IMAGES = (".txt", ".csv", ".json", ".md", ".db", ".ini")  # files that may be next to images


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of a folder with one folder per class, sorted by class and path.

    Attributes:
        class_names: in the order of the labels.
        paths: paths of all files that may be images.
        labels: int32 ``(n,)``, positions in `class_names`.
        readable: bool ``(n,)``: whether the file's extension is that of one of `keras_resv2.data.images.FORMATS`.
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    readable: np.ndarray


def find_splits(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Finds the split folders in a folder, following the rule of `keras_resv2.data.splits`.

    Args:
        folder: path of the folder. Split folders may be spelled ``train``, ``Train``, ``training``, ``seg_train``;
            ``test``, ``testing``; ``val``, ``valid``, ``validation``, ``eval``, ``dev``.

    Returns:
        Dictionary from "train", "test" and "validation" to the paths that exist; empty if the folder has no splits.

    Raises:
        ValueError: if two folders name the same split, or folders look like splits but have none of the names above.

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
    # A single folder "train" is a split if it is the only folder and contains class folders; otherwise it is a class.
    return {kind: folder / name for kind, name in splits.items() if len(names) == 1 and _folders(folder / name)}


def class_folders(folder: str | os.PathLike) -> set[str]:
    """Returns the names of possible class folders: those in a folder and in its split folders.

    Args:
        folder: path of the folder.

    Returns:
        Set of names, which are not necessarily classes.

    Example:

    >>> class_folders("flowers")  # doctest: +SKIP
    {'daisy', 'tulip'}
    """
    folder = pathlib.Path(folder)
    names = set(_folders(folder))
    return names.union(*(_folders(folder / name) for name in names if names_a_split(name)))


def _check_no_other_splits(folder, names):
    """Raises ValueError if a folder is named like a split and is no class, as its contents show."""
    inside = {name: set(_folders(folder / name)) for name in names}
    nested = {name for name in names if len(inside[name]) > 1 and not _holds_files(folder / name)}
    for name in (name for name in names if names_a_split(name)):
        for other in names:
            shared = sorted(inside[name] & inside[other])
            if other != name and shared:
                raise ValueError(
                    f"{folder}: {name} and {other} both contain a folder {shared[0]}, so they look like splits and not "
                    "like classes: rename them to train, val and test."
                )
        if name in nested and nested != set(names):  # classes may all be divided into folders
            raise ValueError(
                f"{folder}: {name} contains the folders {some(sorted(inside[name]))} and no images, so it looks like a "
                f"split and not like a class beside {some([other for other in names if other != name])}: pass "
                f"{folder / name}, or rename it."
            )


def scan_classes(folder: str | os.PathLike, class_names: Sequence[str] | None = None) -> ClassFolders:
    """Finds the files of a folder with one folder per class, without opening them.

    Class folders are searched recursively. Hidden files and folders (`keras_resv2.data.splits.is_hidden`) and text
    files are ignored.

    Args:
        folder: path of the folder.
        class_names: the classes in order, some of which may be missing; None for all folders, sorted.

    Returns:
        `ClassFolders`.

    Raises:
        ValueError: if it has no class folders, or has split folders; or a class folder is empty or not one of the
            classes.

    Example:

    >>> scan_classes("flowers/train").class_names  # doctest: +SKIP
    ('daisy', 'tulip')
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{folder.parent} does not contain a folder {folder.name}/ with one folder of images per class."
        )
    folders, splits = _folders(folder), find_splits(folder)
    if splits:
        raise ValueError(
            f"{folder} contains {' and '.join(path.name for path in splits.values())}, each with class folders: choose "
            "one "
            f"of them, such as {next(iter(splits.values()))}."
        )
    if not folders:
        raise ValueError(f"{folder} contains no class folders: it needs one folder of images per class.")
    unknown = [name for name in folders if class_names is not None and name not in class_names]
    if unknown:
        raise ValueError(
            f"{folder} contains {some(unknown)}, not one of the classes {some(list(class_names or ()))}: remove it."
        )
    known = Image.registered_extensions()  # .mpo is several JPEG images, of which the first is read
    endings = {ending for ending, kind in known.items() if kind == "MPO" or (kind in FORMATS and kind in Image.OPEN)}
    class_names = tuple(folders) if class_names is None else tuple(class_names)
    for name in folders:
        if class_names.count(name) > 1:
            raise ValueError(f"{folder}: several classes are called {name}, so the label of its images is ambiguous.")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        found = _files(folder / name) if name in folders else []
        if name in folders and not found:
            raise ValueError(f"class folder {folder / name} contains no images: every class needs some.")
        paths += found
        labels += [label] * len(found)
    readable = np.array([_ending(path) in endings for path in paths])
    return ClassFolders(class_names, tuple(paths), np.array(labels, "int32"), readable)


def _folders(folder):
    """Returns the sorted names of the folders in a folder, except hidden ones; empty for a file."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _holds_files(folder):
    """Returns whether a folder itself contains files that may be images."""
    return any(
        path.is_file() and not is_hidden(path.name) and _ending(path.name) not in NO_IMAGES for path in folder.iterdir()
    )


def _files(folder):
    """Returns the sorted paths of the files of a class."""
    paths, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:  # a link to a folder that contains it
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not is_hidden(name)]
        paths += [
            os.path.join(parent, name) for name in names if not is_hidden(name) and _ending(name) not in NO_IMAGES
        ]
    return sorted(paths)


def _raise(error):
    raise error


def _ending(path):
    return os.path.splitext(path)[1].lower()


class FolderSource:
    """Encoded image files of a split: a source, see `keras_resv2.data.sources.open_source`.

    Both splits have the classes of the training images, or those that are given.

    Args:
        data_dir: folder with split folders; with `class_names` also a folder of class folders.
        split: "train" or "test".
        class_names: the classes in order; None for those of the training images.

    Raises:
        ValueError: if a split or its images are missing, or the training images lack a class of the test images.
    """

    name = "folder"

    def __init__(self, data_dir: str | os.PathLike, split: str, class_names: Sequence[str] | None = None):
        splits = find_splits(data_dir)
        if class_names is not None:
            self.class_names = tuple(class_names)
            found = _images(scan_classes(splits.get(split, data_dir), self.class_names))
        else:
            train = scan_classes(splits.get(TRAIN, pathlib.Path(data_dir, TRAIN)))
            self.class_names = train.class_names
            if split == TEST and TEST not in splits:
                raise ValueError(f"{data_dir} contains no test images: it needs a folder test/ or val/.")
            found = _images(train if split == TRAIN else scan_classes(splits[TEST], self.class_names))
        self._paths, self._labels = found.paths, found.labels

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> tuple[bytes, np.integer]:
        """Returns ``(bytes of the image file, label)`` of image `i`."""
        with open_regular(self._paths[i], most_bytes()) as file:
            return file.read(), self._labels[i]

    def place(self, i: int) -> str:
        """Returns the path of image `i`."""
        return self._paths[i]


def _images(found):
    """Selects the files whose extension Pillow supports: the others would abort training later."""
    kept = np.flatnonzero(found.readable)
    if len(kept) < len(found.paths):
        others = [found.paths[i] for i in np.flatnonzero(~found.readable)]
        warn_caller(f"{len(others)} files are skipped, their formats are not supported: {some(others)}")
    for label, name in enumerate(found.class_names):
        if (found.labels == label).any() and not (found.labels[kept] == label).any():
            path = found.paths[np.flatnonzero(found.labels == label)[0]]
            raise ValueError(f"class folder of {name} contains no images in a supported format, for example {path}.")
    return ClassFolders(
        found.class_names, tuple(found.paths[i] for i in kept), found.labels[kept], found.readable[kept]
    )


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The decoded images of a folder.

    Attributes:
        images: uint8 ``(n, height, width, 3)``, 0 to 255.
        labels: int32 ``(n,)``, positions in `class_names`.
        class_names: names of the class folders, sorted.
        paths: paths of the files, relative to the folder.
        damaged: messages about the files that could not be read and were skipped.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def read_folder(
    folder: str | os.PathLike,
    size: tuple[int, int],
    damaged: str = "skip",
    class_names: Sequence[str] | None = None,
    most: int | None = None,
) -> ImageFolder:
    """Reads a folder with one folder of images per class.

    Images may have any size and any supported format, in grayscale or color: see `keras_resv2.read_image`.

    Args:
        folder: path of the folder. Class folders are searched recursively; hidden files and folders, and text files,
            are ignored.
        size: (height, width) of the returned images, in pixels.
        damaged: how to handle a file that is not an image: "skip" it, or "raise" an error.
        class_names: the classes in order; None for all folders, sorted.
        most: number of images to read, evenly spaced over all files; None for all.

    Returns:
        `ImageFolder`.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it has no class folders, a class has no images, a folder is not one of the classes, the class
            folders are in train/ and test/, or an image is damaged.

    Example:

    >>> found = read_folder("flowers", (32, 32))  # doctest: +SKIP
    >>> fine_tune(model, (found.images, found.labels))  # doctest: +SKIP
    """
    folder = pathlib.Path(folder)
    check_choice("damaged", damaged, ("skip", "raise"))
    check_size(size)
    if most is not None:
        check_count("most", most)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not an existing folder: pass one with a folder of images per class.")
    if None in size:
        raise ValueError(
            f"size={tuple(size)} must be (height, width), because images of a folder have different sizes."
        )
    files = scan_classes(folder, class_names)
    if len(files.class_names) < 2:
        raise ValueError(
            f"{folder} contains only one folder, {', '.join(files.class_names)}: it needs one folder of images per "
            "class."
        )
    chosen = evenly_spaced(len(files.paths), len(files.paths) if most is None else most)
    images = np.empty((len(chosen), *size, 3), "uint8")
    kept, problems = [], []
    for i in chosen:
        try:
            images[len(kept)] = read_image(files.paths[i], size)
            kept.append(i)
        except (ValueError, FileNotFoundError) as error:  # missing: the target of a link
            if damaged == "raise":
                raise type(error)(f'{error} damaged="skip" skips such files.') from None
            problems.append(str(error))
    labels = files.labels[kept]
    if not kept:
        raise ValueError(f"{folder} contains no readable images, for example: {problems[0]}")
    for label in sorted(set(files.labels[chosen]) - set(labels)) if len(chosen) == len(files.paths) else ():
        raise ValueError(
            f"class folder {folder / files.class_names[label]} contains no images: every class needs some."
        )
    paths = tuple(os.path.relpath(files.paths[i], folder) for i in kept)
    return ImageFolder(images[: len(kept)], labels, files.class_names, paths, tuple(problems))
