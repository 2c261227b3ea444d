"""The pictures of a fine-tuning: a folder of class folders or a dataset of tensorflow-datasets, in three parts."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from keras_resv2.choices import first_line
from keras_resv2.transfer import prepare_images, read_folder, split_pictures
from keras_resv2.transfer.pictures import TEST_NAMES, TRAIN, VALIDATION_NAMES, holds_parts


@dataclasses.dataclass(frozen=True)
class Parts:
    """Pictures to train on, to choose by and to measure with.

    Attributes:
        train, validation, test: ``(images, labels)``: uint8 ``(n, height, width, 3)``, int32 ``(n,)``.
        class_names: in the order of the labels.
        names: for each part the names of its pictures.
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
    """Reads pictures and splits them.

    A folder that has ``train/`` and ``test/`` or ``val/`` is split as it is; what is missing is taken
    from the training pictures, each class in the same share.

    Args:
        data: a folder, or the name of a dataset of tensorflow-datasets.
        data_dir: where tensorflow-datasets has it; None for its own directory.
        size: (height, width) of the pictures wanted.
        shares: (validation, test), of all pictures, where the data do not have those parts.
        seed: of the split.
        damaged: "skip" or "raise", as `keras_resv2.read_folder` takes it.

    Returns:
        `Parts`.

    Raises:
        FileNotFoundError: `data` looks like a folder, and there is none.
        ValueError: as `read_folder`; or the dataset has no labelled pictures.
        ImportError: tensorflow-datasets is not installed.

    Example:

    >>> open_labelled("flowers", None, (32, 32), (0.15, 0.15), 0).class_names  # doctest: +SKIP
    ('daisy', 'tulip')
    """
    if os.path.isdir(data):
        found, class_names, problems = _folder(pathlib.Path(data), size, damaged)
    elif data.startswith((".", os.sep, "~")) or data.count("/") > 1 or os.path.isdir(os.path.dirname(data)):
        raise FileNotFoundError(f"--data {data} is no folder that exists.")
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
    """Takes the parts that are missing from the training pictures."""
    missing = {part: share for part, share in zip(("validation", "test"), shares, strict=True) if part not in found}
    if not missing:
        return found
    images, labels, names = found[TRAIN]
    positions = split_pictures(labels, (1 - sum(missing.values()), *missing.values()), seed, class_names)
    taken = {
        part: (images[where], labels[where], [names[i] for i in where])
        for part, where in zip((TRAIN, *missing), positions, strict=True)
    }
    return {**found, **taken}


def _folder(folder, size, damaged):
    if not holds_parts(folder):
        pictures = read_folder(folder, size, damaged)
        return {TRAIN: _named(pictures)}, pictures.class_names, pictures.damaged
    train = read_folder(folder / TRAIN, size, damaged)
    found, problems = {TRAIN: _named(train)}, list(train.damaged)
    for part, names in (("test", TEST_NAMES), ("validation", VALIDATION_NAMES)):
        for name in (name for name in names if (folder / name).is_dir()):
            pictures = read_folder(folder / name, size, damaged, train.class_names)
            found[part] = _named(pictures)
            problems += pictures.damaged
    return found, train.class_names, tuple(problems)


def _named(pictures):
    return pictures.images, pictures.labels, pictures.paths


def _tfds(name, data_dir, size):
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError("--data NAME needs tensorflow-datasets: pip install tensorflow-datasets") from None
    try:
        splits, info = tfds.load(name, data_dir=data_dir, with_info=True)
        class_names = tuple(info.features["label"].names)
        info.features["image"]
    except Exception as error:  # tfds raises many types; all mean that there are no such pictures
        raise ValueError(
            f"--data {name}: no folder, and tensorflow-datasets cannot read labelled pictures of it: "
            f"{first_line(error)}"
        ) from None
    if TRAIN not in splits:
        raise ValueError(f"--data {name} has no pictures to train on: its splits are {', '.join(splits)}.")
    found, problems = {}, []
    for part, names in ((TRAIN, (TRAIN,)), ("validation", VALIDATION_NAMES), ("test", TEST_NAMES)):
        for split in set(names) & set(splits):
            images, labels, paths = _examples(splits[split], split, size)
            if len(labels) and labels.min() >= 0:
                found[part] = images, labels, paths
            else:
                problems.append(f"{name}: the split {split} has pictures without labels.")
    if TRAIN not in found:
        raise ValueError(problems[0])
    return found, class_names, tuple(problems)


def _examples(split, name, size):
    images, labels = [], []
    for example in split.as_numpy_iterator():
        images.append(prepare_images(example["image"][None], size)[0])
        labels.append(example["label"])
    return np.stack(images), np.array(labels, "int32"), [f"{name}/{i}" for i in range(len(labels))]
