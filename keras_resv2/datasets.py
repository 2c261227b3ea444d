"""The labelled pictures that networks are trained and measured on.

A dataset's place (`data_dir`) is a tensorflow-datasets directory or an `.npz` file with x_train,
y_train, x_test and y_test. Both give the same arrays in the same order.
"""

import dataclasses
import hashlib
import os
import zipfile
import zlib

import numpy as np
from PIL import Image

from keras_resv2.choices import check_choice, first_line


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What is known of a dataset.

    Attributes:
        name: as tensorflow-datasets has it.
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        splits: names of its parts.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    splits: tuple[str, ...] = ("train", "test")


DATASETS = {
    "cifar10": Dataset(
        "cifar10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (32, 32, 3),
    ),
}


def load_split(name, split, data_dir=None, resize=False):
    """All images and labels of one split.

    Args:
        name: a key of `DATASETS`.
        split: "train" or "test".
        data_dir: an `.npz` file or a tensorflow-datasets directory; None for tensorflow-datasets'
            own directory, into which it downloads what is missing.
        resize: whether images of another size may be resized (bilinear).

    Returns:
        ``(images, labels)``: uint8 ``(n, height, width, channels)`` on the 0-255 scale and int32
        ``(n,)``.

    Raises:
        ValueError: there is no such dataset or split, or `data_dir` does not hold it.
        FileNotFoundError: `data_dir` does not exist.
        ImportError: reading a directory takes tensorflow-datasets, and it is not installed.

    Example:

    >>> images, labels = load_split("cifar10", "test", "cifar10.npz")  # doctest: +SKIP
    """
    dataset = DATASETS[check_choice("dataset", name, DATASETS)]
    check_choice("split", split, dataset.splits)
    if data_dir is not None and not os.path.exists(data_dir):
        raise FileNotFoundError(
            f"data_dir {data_dir} does not exist. Without a data_dir tensorflow-datasets downloads {name}; "
            "an .npz file needs x_train, y_train, x_test, y_test."
        )
    if data_dir is not None and os.path.isfile(data_dir):
        images, labels = _load_npz(dataset, split, data_dir)
    else:
        images, labels = _load_tfds(dataset, split, data_dir)
    if resize and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3:
        images = _resized(images, dataset.image_shape)
    return images, _checked_labels(dataset, images, labels, data_dir)


def fingerprint(images, labels):
    """SHA-256, in hex, of the bytes of images and labels (as uint8): which data this was."""
    digest = hashlib.sha256(np.ascontiguousarray(images))
    digest.update(np.asarray(labels, "uint8").tobytes())
    return digest.hexdigest()


def _load_npz(dataset, split, path):
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array")
        with arrays:
            return arrays[f"x_{split}"], arrays[f"y_{split}"]
    except KeyError as error:
        raise ValueError(
            f"{path} holds no {error.args[0].split()[0]}: it needs x_train, y_train, x_test, y_test."
        ) from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no readable .npz file of images and labels: {error}") from None


def _load_tfds(dataset, split, data_dir):
    if data_dir is not None and not os.path.isdir(os.path.join(data_dir, dataset.name)):
        raise ValueError(
            f"{data_dir} holds no {dataset.name}: name a tensorflow-datasets directory (with {dataset.name}/ in it) "
            "or an .npz file."
        )
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError(
            "reading a tensorflow-datasets directory needs that package: pip install tensorflow-datasets, "
            "or give an .npz file."
        ) from None
    try:
        examples = tfds.load(dataset.name, split=split, data_dir=data_dir, batch_size=-1, download=data_dir is None)
        examples = tfds.as_numpy(examples)
    except Exception as error:  # tfds raises many types; all mean that the directory cannot be read
        reason = first_line(error)
        raise ValueError(f"{data_dir or 'tensorflow-datasets'}: {dataset.name} cannot be read: {reason}") from None
    # tfds stores examples shuffled; the ids ("train_00042") give back the original order.
    order = np.argsort(examples["id"]) if "id" in examples else slice(None)
    return examples["image"][order], examples["label"][order]


def _resized(images, shape):
    if images.shape[1:] == shape:
        return images
    size = shape[1], shape[0]
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images])


def _checked_labels(dataset, images, labels, data_dir):
    where = data_dir or dataset.name
    if images.dtype != np.uint8 or images.shape[1:] != dataset.image_shape:
        raise ValueError(
            f"{where}: images are {images.dtype} {images.shape}; {dataset.name} has uint8 (n, "
            f"{', '.join(map(str, dataset.image_shape))}). resize=True (--resize in training) scales other sizes."
        )
    labels = np.asarray(labels).reshape(-1).astype("int32")
    if len(labels) != len(images):
        raise ValueError(f"{where}: {len(images)} images but {len(labels)} labels.")
    classes = len(dataset.class_names)
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{where}: labels of {dataset.name} must be 0 to {classes - 1}.")
    return labels
