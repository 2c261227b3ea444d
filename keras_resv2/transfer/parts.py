"""The images of a fine-tuning: a folder of class folders or a dataset of tensorflow-datasets, in three parts."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from keras_resv2.data import assign_splits, find_splits, read_folder, split_images
from keras_resv2.data.images import decode_image
from keras_resv2.data.splits import TEST, TRAIN, VALIDATION, names_a_split
from keras_resv2.data.tfds_records import TfdsRecords, open_builder


@dataclasses.dataclass(frozen=True)
class Parts:
    """Images to train on, to choose by and to measure with.

    Attributes:
        train, validation, test: ``(images, labels)``: uint8 ``(n, height, width, 3)``, int32 ``(n,)``.
        class_names: in the order of the labels.
        names: for each part the names of its images.
        damaged: messages of the files that are left out.
    """

    train: tuple
    validation: tuple
    test: tuple
    class_names: tuple
    names: dict
    damaged: tuple = ()

    def fingerprint(self):
        """SHA-256, in hex, of all pixels and labels, in their parts."""
        digest = hashlib.sha256()
        for images, labels in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(images))
            digest.update(labels.astype("int32").tobytes())
        return digest.hexdigest()


def open_labelled(data, data_dir, size, shares, seed, damaged="skip"):
    """Reads images and splits them.

    Splits that there are serve as `keras_resv2.data.splits` says: the test images are those of ``test``, and
    where there are none, those of ``val``. What is missing is taken from the training images, each class in the
    same share.

    Args:
        data: a folder, or the name of a dataset of tensorflow-datasets.
        data_dir: where tensorflow-datasets has it; None for its own directory.
        size: (height, width) of the images wanted.
        shares: (validation, test), of all images, where the data do not have those parts.
        seed: of the split.
        damaged: "skip" or "raise", as `keras_resv2.read_folder` takes it.

    Returns:
        `Parts`.

    Raises:
        FileNotFoundError: `data` looks like a folder, and there is none.
        ValueError: as `read_folder`; or the dataset has no labelled images.
        ImportError: tensorflow-datasets is not installed.

    Example:

    >>> open_labelled("flowers", None, (32, 32), (0.15, 0.15), 0).class_names  # doctest: +SKIP
    ('daisy', 'tulip')
    """
    if os.path.isdir(data):
        found, class_names, problems = _folder(pathlib.Path(data), size, damaged)
    elif data.startswith((".", os.sep, "~")) or data.count("/") > 1 or os.path.isdir(os.path.dirname(data)):
        raise FileNotFoundError(f"--data {data} is not a folder that exists.")
    else:
        found, class_names, problems = _tfds(data, data_dir, size)
    parts = _complete(found, shares, seed, class_names)
    return Parts(
        **{part: (images, labels) for part, (images, labels, _) in parts.items()},
        class_names=class_names,
        names={part: tuple(names) for part, (*_, names) in parts.items()},
        damaged=problems,
    )


def _complete(found, shares, seed, class_names):
    """Takes the parts that are missing from the training images."""
    missing = {part: share for part, share in zip((VALIDATION, TEST), shares, strict=True) if part not in found}
    if not missing:
        return found
    images, labels, names = found[TRAIN]
    positions = split_images(labels, (1 - sum(missing.values()), *missing.values()), seed, class_names)
    taken = {
        part: (images[where], labels[where], [names[i] for i in where])
        for part, where in zip((TRAIN, *missing), positions, strict=True)
    }
    return {**found, **taken}


def _folder(folder, size, damaged):
    splits = find_splits(folder)
    if not splits:
        splits = {TRAIN: folder}
    if TRAIN not in splits:
        raise ValueError(f"{folder} holds {', '.join(path.name for path in splits.values())}, and no folder train/.")
    found, problems, class_names = {}, [], None
    for part, path in splits.items():
        read = read_folder(path, size, damaged, class_names)
        class_names = read.class_names
        found[part] = read.images, read.labels, read.paths
        problems += read.damaged
    return found, class_names, tuple(problems)


def _tfds(name, data_dir, size):
    try:
        builder = open_builder(name, data_dir)
    except ValueError as error:
        raise ValueError(
            f"--data {name} is not a folder, and tensorflow-datasets cannot read labelled images of it: {error}"
        ) from None
    class_names = tuple(builder.info.features["label"].names)
    sources = {split: TfdsRecords(builder, split) for split in builder.info.splits if names_a_split(split)}
    labelled = {split: source for split, source in sources.items() if source[0][1] >= 0}
    problems = [f"{name}: the split {split} has images without labels." for split in sources if split not in labelled]
    chosen = assign_splits(labelled)
    if TRAIN not in chosen:
        splits = ", ".join(builder.info.splits)
        raise ValueError(" ".join([f"--data {name} has no images to train on: its splits are {splits}.", *problems]))
    found = {part: _examples(labelled[split], split, size) for part, split in chosen.items()}
    return found, class_names, tuple(problems)


def _examples(source, name, size):
    images, labels = [], []
    for i in range(len(source)):
        encoded, label = source[i]
        images.append(decode_image(encoded, source.place(i), size))
        labels.append(label)
    return np.stack(images), np.array(labels, "int32"), [f"{name}/{i}" for i in range(len(labels))]
