"""The data of `keras-resv2 finetune`: class folders or a tensorflow-datasets dataset, in three splits."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from keras_resv2.data import assign_splits, find_splits, read_folder, split_images
from keras_resv2.data.folders import scan_classes
from keras_resv2.data.sources import decode_readable
from keras_resv2.data.splits import TEST, TRAIN, VALIDATION, names_a_split
from keras_resv2.data.tfds_records import TfdsRecords, open_builder
from keras_resv2.storage.card_schema import check_class_names


@dataclasses.dataclass(frozen=True)
class FinetuneData:
    """Images to train on, to choose the weights by, and to measure the error with.

    Attributes:
        train, validation, test: ``(images, labels)``: uint8 ``(n, height, width, 3)``, int32 ``(n,)``.
        class_names: in the order of the labels.
        names: dictionary from each split to the names of its images.
        damaged: a message for each file that was left out.
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    class_names: tuple[str, ...]
    names: dict[str, tuple[str, ...]]
    damaged: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the pixels and labels of all splits."""
        digest = hashlib.sha256()
        for images, labels in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(images).data)
            digest.update(labels.astype("int32").tobytes())
        return digest.hexdigest()


def load_finetune_data(
    data: str,
    data_dir: str | None,
    size: tuple[int, int],
    shares: tuple[float, float],
    seed: int,
    damaged: str = "skip",
) -> FinetuneData:
    """Reads images and splits them.

    Existing splits are used as `keras_resv2.data.splits` describes: the test images are those of ``test``, or of
    ``val`` if there is no ``test``. Missing splits are taken from the training images, the same fraction of each class.

    Args:
        data: a folder, or the name of a dataset of tensorflow-datasets.
        data_dir: directory of tensorflow-datasets; None for its default.
        size: (height, width) of the images.
        shares: (validation, test), fractions of all images, for splits that are missing.
        seed: of the split.
        damaged: "skip" or "raise", as `keras_resv2.read_folder` takes it.

    Returns:
        `FinetuneData`.

    Raises:
        FileNotFoundError: `data` looks like a folder that does not exist.
        NotADirectoryError: `data` is a file.
        ValueError: as `read_folder`; or the dataset has no labeled images.
        ImportError: tensorflow-datasets is not installed.

    Example:

    >>> load_finetune_data("flowers", None, (32, 32), (0.15, 0.15), 0).class_names  # doctest: +SKIP
    ('daisy', 'tulip')
    """
    if os.path.isdir(data):
        if data_dir is not None:
            raise ValueError(f"--data_dir is for datasets of tensorflow-datasets; --data {data} is a folder.")
        splits, class_names, problems = _read_folder(pathlib.Path(data), size, damaged, shares)
    elif os.path.exists(data):
        raise NotADirectoryError(f"--data {data} is a file: it must be a folder with one folder of images per class.")
    elif data.startswith((".", os.sep, "~")) or data.count("/") > 1 or os.path.isdir(os.path.dirname(data)):
        raise FileNotFoundError(f"--data {data} is not a folder that exists.")
    else:
        splits, class_names, problems = _read_tfds(data, data_dir, size, damaged)
    splits = _add_missing(splits, shares, seed, class_names)
    return FinetuneData(
        **{split: (images, labels) for split, (images, labels, _) in splits.items()},
        class_names=class_names,
        names={split: tuple(names) for split, (*_, names) in splits.items()},
        damaged=problems,
    )


def _missing(splits, shares):
    return {split: share for split, share in zip((VALIDATION, TEST), shares, strict=True) if split not in splits}


def _sizes(missing):
    """Returns the fractions of the training images and of the splits that are taken from them."""
    return 1 - sum(missing.values()), *missing.values()


def _add_missing(splits, shares, seed, class_names):
    """Takes missing splits from the training images."""
    missing = _missing(splits, shares)
    if not missing:
        return splits
    images, labels, names = splits[TRAIN]
    positions = split_images(labels, _sizes(missing), seed, class_names)
    divided = {
        split: (images[where], labels[where], [names[i] for i in where])
        for split, where in zip((TRAIN, *missing), positions, strict=True)
    }
    return {**splits, **divided}


def _read_folder(folder, size, damaged, shares):
    folders = find_splits(folder)
    if not folders:
        folders = {TRAIN: folder}
    if TRAIN not in folders:
        raise ValueError(f"{folder} holds {', '.join(path.name for path in folders.values())}, but no folder train/.")
    # Everything that can be checked without decoding images, which takes minutes for large folders.
    train = scan_classes(folders[TRAIN])
    class_names = train.class_names
    check_class_names(class_names, f"--data {folder}")
    for split, path in folders.items():
        if split != TRAIN:
            scan_classes(path, class_names)
    missing = _missing(folders, shares)
    if missing:
        split_images(train.labels, _sizes(missing), 0, class_names)
    splits, problems = {}, []
    for split, path in folders.items():
        read = read_folder(path, size, damaged, class_names)
        splits[split] = read.images, read.labels, read.paths
        problems += read.damaged
    return splits, class_names, tuple(problems)


def _read_tfds(name, data_dir, size, damaged):
    try:
        builder = open_builder(name, data_dir)
    except ImportError:
        raise ImportError(
            f"--data {name} is not a folder that exists; reading a dataset of that name requires "
            "tensorflow-datasets: pip install tensorflow-datasets"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"--data {name} is not a folder, and tensorflow-datasets cannot read labelled images of it: {error}"
        ) from None
    class_names = tuple(builder.info.features["label"].names)
    check_class_names(class_names, f"--data {name}")
    records = {split: TfdsRecords(builder, split) for split in builder.info.splits if names_a_split(split)}
    labelled = {split: source for split, source in records.items() if source[0][1] >= 0}
    problems = [f"{name}: the split {split} has images without labels." for split in records if split not in labelled]
    assigned = assign_splits(labelled)
    if TRAIN not in assigned:
        names = ", ".join(builder.info.splits)
        raise ValueError(" ".join([f"--data {name} has no images to train on: its splits are {names}.", *problems]))
    splits = {}
    for split, name_of_split in assigned.items():
        *splits[split], broken = _decode(labelled[name_of_split], name_of_split, size, damaged)
        problems += broken
    return splits, class_names, tuple(problems)


def _decode(source, name, size, damaged):
    """Returns images, labels and names of a split, and messages about damaged images, which are left out."""
    images, labels, problems = decode_readable(source, range(len(source)), damaged, size=size)
    if not images:
        raise ValueError(f"the split {name} has no readable images, for example: {problems[0]}")
    names = [f"{name}/{i}" for i in labels]
    return np.stack(images), np.array(list(labels.values()), "int32"), names, problems
