"""Datasets as arrays: all images of a split in memory, from an .npz file, tensorflow-datasets or a folder.

The location of a dataset (`data_dir`) is a tensorflow-datasets directory or an `.npz` file with x_train, y_train,
x_test and y_test. Both yield the same arrays in the same order.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import zipfile
import zlib
from typing import Protocol

import numpy as np
from PIL import Image

from keras_resv2.argument_checks import check_choice, some, warn_caller
from keras_resv2.data.checks import class_numbers
from keras_resv2.data.folders import class_folders, find_splits, read_folder
from keras_resv2.data.images import channels_hint, decode_image
from keras_resv2.data.registry import Dataset, find_dataset
from keras_resv2.data.splits import TEST, TRAIN, evenly_spaced
from keras_resv2.data.tfds_records import TfdsRecords, open_builder

SPLITS = (TRAIN, TEST)
DECIMALS = 3  # of the measured statistics


def open_dataset(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Returns a dataset of the registry, completed with properties measured on its data.

    Args:
        name: a key of `keras_resv2.data.DATASETS`.
        data_dir: for "arrays", an `.npz` file, from which classes, image size and statistics of the training pixels are
            taken; class names are its array ``class_names``, else "class 0", "class 1", ...

    Returns:
        `keras_resv2.data.Dataset`.

    Raises:
        ValueError: if there is no such dataset, or the file does not contain images and labels.
        FileNotFoundError: if the file does not exist.

    Example:

    >>> open_dataset("cifar100").classes
    100
    """
    row = find_dataset(name)
    if row.name != "arrays":
        return row
    if data_dir is None or not os.path.isfile(data_dir):
        raise FileNotFoundError(
            f"data_dir {data_dir} is not an existing file: --dataset arrays needs an .npz file with x_train, "
            "y_train, x_test, y_test."
        )
    images, labels, given = _load_npz(data_dir, TRAIN)
    images, labels = _as_images(images, data_dir), _as_labels(labels, data_dir)
    _check_pairs(images, labels, data_dir)
    names = _class_names(given, labels, data_dir)
    mean, std = measure_pixels(images)
    return dataclasses.replace(row, class_names=names, image_shape=images.shape[1:], mean=mean, std=std)


def load_split(
    dataset: str | Dataset,
    split: str,
    data_dir: str | os.PathLike | None = None,
    resize: bool = False,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Loads all images and labels of one split.

    Args:
        dataset: a key of `keras_resv2.data.DATASETS`, or a `keras_resv2.data.Dataset`.
        split: "train" or "test".
        data_dir: an `.npz` file or a tensorflow-datasets directory; for a dataset that tensorflow-datasets does not
            have, a folder of images works too. None for the default directory of tensorflow-datasets, which downloads
            missing data, or that of `keras.datasets` if tensorflow-datasets is not installed.
        resize: whether to resize images of another size (bilinear).
        most: number of images of a folder to read, evenly spaced; None for all. Datasets of other forms are complete.

    Returns:
        ``(images, labels)``: uint8 ``(n, height, width, channels)`` on the 0-255 scale and int32 ``(n,)``. Grayscale
        images are repeated in three channels.

    Raises:
        ValueError: if there is no such dataset or split, or `data_dir` does not contain it: images of another size,
            or labels of more or, in a complete split, fewer classes.
        FileNotFoundError: if `data_dir` does not exist.
        ImportError: if reading a directory requires tensorflow-datasets, which is not installed.

    Example:

    >>> images, labels = load_split("cifar10", "test", "cifar10.npz")  # doctest: +SKIP
    """
    row = find_dataset(dataset) if isinstance(dataset, str) else dataset
    check_choice("split", split, SPLITS)
    if row.streamed:
        raise ValueError(
            f"{row.name} has images of many sizes, which are streamed from disk and do not form one array."
        )
    if data_dir is not None and not os.path.exists(data_dir):
        raise FileNotFoundError(
            f"data_dir {data_dir} does not exist: pass an .npz file with x_train, y_train, x_test, y_test, or a "
            "tensorflow-datasets directory."
        )
    if row.image_shape is None:
        row = open_dataset(row.name, data_dir)
    assert row.image_shape is not None  # that of the data
    images, labels = _read(row, split, data_dir, most)
    where = data_dir or row.name
    shape = images.shape
    images, labels = _as_images(images, where), _as_labels(labels, where)
    if resize:
        images = _resized(images, row.image_shape)
    if images.shape[1:] != row.image_shape:
        height, width, channels = row.image_shape
        raise ValueError(
            f"{where}: images of {split} have the shape {shape}, {row.name} has (n, {height}, {width}, {channels}). "
            "resize=True (--resize in training) resizes them."
        )
    _check_pairs(images, labels, where)
    if labels.min() < 0 or labels.max() >= row.classes:
        raise ValueError(
            f"{where}: labels of {split} range from {labels.min()} to {labels.max()}; those of {row.name} must be from "
            "0 to "
            f"{row.classes - 1}."
        )
    present = len(np.unique(labels))
    if len(labels) == row.examples.get(split) and present < row.classes:
        raise ValueError(
            f"{where}: the {len(labels):,} images of {split} have labels of {present} classes; {row.name} has "
            f"{row.classes}: these are the images of another dataset."
        )
    return images, labels


def sample_positions(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of `count` images that stand for all.

    Args:
        labels: class indices ``(n,)``.
        count: number of images; all if there are not as many.

    Returns:
        int ``(min(count, n),)``, ascending: the first ones; evenly spaced if the images are sorted by class, as those
        of folders are, because the first ones would be of one class.

    Example:

    >>> sample_positions(np.array([1, 0, 1, 0]), 2).tolist(), sample_positions(np.array([0, 0, 1, 1]), 2).tolist()
    ([0, 1], [0, 3])
    """
    if (np.diff(labels.astype("int64")) >= 0).all():
        return evenly_spaced(len(labels), count)
    return np.arange(min(count, len(labels)))


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """Returns the SHA-256, in hex, of the bytes of images and labels, which identifies the data."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    labels = np.asarray(labels)
    digest.update(labels.astype("uint8" if labels.max(initial=0) < 256 else "int32").tobytes())
    return digest.hexdigest()


def measure_pixels(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes the mean and standard deviation of pixels for each channel.

    Sums are computed in integers, so they are the same on every machine.

    Args:
        images: uint8 ``(n, height, width, channels)``.

    Returns:
        ``(mean, std)``: tuples of floats, to three decimals. A constant channel has a standard deviation of 1, so that
        it is safe to divide by it.

    Example:

    >>> measure_pixels(np.array([0, 255, 255, 0], "uint8").reshape(1, 2, 2, 1))
    ((127.5,), (127.5,))
    """
    values = np.arange(256)
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])])
    count = images[..., 0].size
    mean = counts @ values / count
    std = np.sqrt(np.maximum(counts @ values**2 / count - mean**2, 0))
    std = np.where(std < 10.0**-DECIMALS, 1.0, std)
    return tuple(np.round(mean, DECIMALS).tolist()), tuple(np.round(std, DECIMALS).tolist())


def _read(row, split, data_dir, most):
    if data_dir is not None and os.path.isfile(data_dir):
        images, labels, given = _load_npz(data_dir, split)
        known = given is not None and row.class_names
        return images, _in_order(labels, given, row, data_dir) if known else labels
    if row.tfds:
        if data_dir is None and row.keras and importlib.util.find_spec("tensorflow_datasets") is None:
            return _load_keras(row, split)
        return _load_tfds(row, split, data_dir)
    if data_dir is None:
        raise ValueError(f"{row.name} needs a data_dir: an .npz file with x_train, y_train, x_test, y_test.")
    return _load_folder(row, split, data_dir, most)


def _load_npz(path, split):
    """Reads images, labels and class names (or None) from a file."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it contains a single array")
        with arrays:
            return arrays[f"x_{split}"], arrays[f"y_{split}"], arrays.get("class_names")
    except KeyError as error:
        raise ValueError(
            f"{path} does not contain {error.args[0].split()[0]}: it needs x_train, y_train, x_test, y_test."
        ) from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable .npz file of images and labels: {error}") from None


def _in_order(labels, given, row, where):
    """Converts the labels of a file to the class order of a dataset, using the class names in the file."""
    names = _texts(given)
    if row.class_names in (names, tuple(f"class {number}" for number in range(len(names)))):  # or has no names
        return labels
    if sorted(names) != sorted(row.class_names):
        raise ValueError(
            f"{where}: its class_names ({some(names)}) are not the classes of {row.name} ({some(row.class_names)}). "
            f"Remove class_names from the file if its labels follow the order of {row.name}."
        )
    labels = _as_labels(labels, where)
    order = np.array([row.class_names.index(name) for name in names], "int32")
    in_range = bool(len(labels)) and labels.min() >= 0 and labels.max() < len(names)
    return order[labels] if in_range else labels  # `load_split` rejects labels out of range


def _texts(names):
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names.reshape(-1).tolist())


def _load_keras(row, split):
    import keras

    try:
        images, labels = getattr(keras.datasets, row.keras).load_data()[SPLITS.index(split)]
    except Exception as error:  # no network, or a damaged file: urllib and pickle raise many types
        raise ValueError(f"keras.datasets cannot load {row.name}: {error}. Pass an .npz file as --data_dir.") from None
    # Keras returns these in the configured data format.
    channels_first = images.ndim == 4 and images.shape[1] == 3
    return images.transpose(0, 2, 3, 1) if channels_first else images, labels


def _load_tfds(row, split, data_dir):
    source = TfdsRecords(open_builder(row, data_dir), row.splits[split])
    images, labels, ids = [], [], []
    for i in range(len(source)):
        example = source.example(i)
        images.append(decode_image(example["image"], source.place(i)))
        labels.append(example["label"])
        ids.append(example.get("id", b""))
    try:
        images = np.stack(images)
    except ValueError:
        raise ValueError(f"{source.name} has images of several sizes: train on them with --recipe imagenet.") from None
    # tfds stores examples shuffled; the ids ("train_00042") restore the original order.
    order = np.argsort(ids, kind="stable")
    return images[order], np.array(labels)[order]


def _load_folder(row, split, data_dir, most):
    """Reads images as in fine-tuning: resized to the short side and center-cropped; without splits, all of them."""
    splits = find_splits(data_dir)
    folder = splits.get(split)
    if not splits and class_folders(data_dir) & set(row.class_names):
        folder = data_dir
    if folder is None:
        raise ValueError(
            f"{data_dir} does not contain a folder {split}/ with one folder of images per class, and is not an .npz "
            "file."
        )
    found = read_folder(folder, row.image_shape[:2], class_names=row.class_names, most=most)
    for problem in found.damaged:
        warn_caller(f"{problem} It is skipped.")
    return found.images, found.labels


def _resized(images, shape):
    if images.shape[1:] == shape:
        return images
    size = shape[1], shape[0]
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images])


def _as_images(images, where):
    """Converts images to uint8 ``(n, height, width, 3)``."""
    if images.dtype != np.uint8:
        raise ValueError(
            f"{where}: images have the dtype {images.dtype}: pixels must be uint8, 0 to 255 (scale them, then "
            ".astype('uint8'))."
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"{where}: images have the shape {images.shape}: it must be (n, height, width, 3), or for grayscale images "
            "(n, height, "
            f"width){channels_hint(images.shape)}."
        )
    return images


def _as_labels(labels, where):
    """Converts labels to int32 ``(n,)``."""
    return class_numbers(labels, where).astype("int32")


def _check_pairs(images, labels, where):
    if len(labels) != len(images):
        raise ValueError(f"{where}: {len(images)} images but {len(labels)} labels.")
    if not len(labels):
        raise ValueError(f"{where} contains no images.")


def _class_names(given, labels, where):
    """Returns the class names given in a file, or numbered ones."""
    if given is None:
        present = np.unique(labels)
        missing = sorted(set(range(max(present) + 1)) - set(present.tolist()))
        if present[0] < 0 or missing:
            found = f"class {missing[0]} has no images" if missing else f"there is a label {present[0]}"
            raise ValueError(
                f"{where}: labels of y_train must be 0, 1, ... without gaps, but {found}. np.unique(y, "
                "return_inverse=True) renumbers them; or add class_names, the names of all classes."
            )
        names = tuple(f"class {number}" for number in present.tolist())
    else:
        names = _texts(given)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"{where}: {len(names)} classes have {len(set(names))} distinct names: at least two classes are needed, "
            "with unique names."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"{where}: labels of y_train range from {labels.min()} to {labels.max()}, but class_names has {len(names)} "
            f"names: labels must be 0 to {len(names) - 1}."
        )
    return names


class DescribesData(Protocol):
    """What `described` reads of a card."""

    @property
    def dataset(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def origin(self) -> dict | None: ...


def described(card: DescribesData) -> Dataset:
    """Returns the dataset of a card: its row in the registry, or one created from the card.

    Args:
        card: `keras_resv2.pretrained.Card`.

    Returns:
        `keras_resv2.data.Dataset`.
    """
    with contextlib.suppress(ValueError):
        row = find_dataset(card.dataset)
        fits = row.classes in (0, len(card.class_names)) and row.image_shape
        tuned = (card.origin or {}).get("layout") == "fine-tuned"
        # Fine-tuning reads images of all sizes as arrays, resized; a folder of images may have any name.
        if fits and tuned and not row.streamed:
            return dataclasses.replace(row, class_names=card.class_names, image_shape=card.image_shape)
        if fits and not tuned:
            return row
    height, width, channels = card.image_shape
    return Dataset(card.dataset, tuple(card.class_names), (height, width, channels))
