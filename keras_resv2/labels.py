"""Converts class probabilities to class names."""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from keras_resv2.argument_checks import check_count
from keras_resv2.data import DATASETS, Dataset, class_folders, described, find_splits, load_split
from keras_resv2.data.checks import check_finite
from keras_resv2.data.folders import FolderSource
from keras_resv2.data.images import prepare_images
from keras_resv2.data.registry import known_dataset
from keras_resv2.data.sources import Source, open_source
from keras_resv2.data.splits import TEST
from keras_resv2.files import open_regular
from keras_resv2.pretrained import pretrained_card
from keras_resv2.storage import download
from keras_resv2.storage.card import Card
from keras_resv2.storage.checksum import agrees
from keras_resv2.storage.local import home

LARGEST = 16 << 20  # bytes of a file of class names; ImageNet's has 35,000
OLDER = "imagenet_class_index.json"
# The file of keras.applications, byte for byte: WordNet's IDs of the classes and the first name of each.
IMAGENET = pathlib.Path(__file__).parent / "data" / OLDER


def class_names(card: Card) -> tuple[str, ...]:
    """Returns the names of a card's classes, in the order of the outputs.

    Those of ImageNet are in the package. If a card names another file, it is downloaded into the cache on the first
    call.

    Args:
        card: `keras_resv2.pretrained.Card`.

    Returns:
        Tuple of names.

    Raises:
        OSError: if the names cannot be downloaded.
        ValueError: if the downloaded file is not the expected one.
    """
    if card.class_index is None:
        return card.class_names
    return tuple(name for _, name in _class_index(card))


def _class_index(card) -> list[tuple[str, str]]:
    """Returns a pair of WordNet ID and name for each class of a card with a `class_index`."""
    url, md5 = card.class_index["url"], card.class_index["md5"]
    # Named by checksum, because the files of two cards may have the same name. Versions before 0.2 used the name.
    path, older = home() / "class_index" / f"{md5}.json", home() / OLDER
    for here in (IMAGENET, older):
        if here.is_file() and agrees(here, md5):
            path = here
    if not path.exists():
        download.fetch(url, path, None, md5, limit=LARGEST)
    with open_regular(path, LARGEST) as file:
        text = file.read(LARGEST + 1)
    if hashlib.md5(text, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} is damaged: delete it to download it again.")
    try:
        index = json.loads(text)
        pairs: list[Any] = [(index[number][0], index[number][1]) for number in card.class_names]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pairs = [(None, None)]
    if not all(isinstance(word, str) and word.isprintable() for pair in pairs for word in pair):
        raise ValueError(f"{url} does not contain the names of {len(card.class_names):,} classes by number.")
    return pairs


def dataset_of(card: Card, data_dir: str | os.PathLike | None) -> Dataset:
    """Returns the dataset of a card as found in a directory, which may hold folders of the card's classes.

    Args:
        card: `keras_resv2.pretrained.Card`.
        data_dir: see `keras_resv2.data.load_split`; or a folder with one folder of images per class, directly or in
            ``train`` and ``test``. Folders have the names of the classes, for ImageNet alternatively their WordNet IDs
            (n01440764).

    Returns:
        `keras_resv2.data.Dataset`, for `load_split`.

    Raises:
        ValueError, OSError: see `class_names`.
    """
    row = described(card)
    if data_dir is None or not os.path.isdir(data_dir):
        return row
    if any(os.path.isdir(os.path.join(data_dir, place.split("/")[0])) for place in row.tfds):
        return row
    folders = class_folders(data_dir)
    for names in class_spellings(card) if folders else ():
        if folders & set(names):
            return dataclasses.replace(
                row, class_names=names, image_shape=tuple(card.image_shape), streamed=False, tfds=()
            )
    return row


def may_contain_training_images(card: Card, data_dir: str | os.PathLike | None) -> bool:
    """Returns whether the images of a directory may be those that a fine-tuned network was trained on.

    That is the case of a folder of class folders without test images, such as ``keras-resv2 finetune`` splits itself.

    Args:
        card, data_dir: see `dataset_of`.
    """
    if (card.origin or {}).get("layout") != "fine-tuned" or data_dir is None or not os.path.isdir(data_dir):
        return False
    return not dataset_of(card, data_dir).tfds and TEST not in find_splits(data_dir)


def load_images(
    card: Card, split: str, data_dir: str | os.PathLike | None, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Loads images of a card's dataset at the size that its network expects.

    Args:
        card: `keras_resv2.pretrained.Card`.
        split: "train" or "test".
        data_dir: see `dataset_of`.
        most: see `keras_resv2.data.load_split`.

    Returns:
        ``(images, labels)``, as `keras_resv2.data.load_split` returns them. If the network was
        fine-tuned at a different image size, the images are resized as in fine-tuning.

    Raises:
        ValueError, OSError, ImportError: see `keras_resv2.data.load_split`.
    """
    row, stored = dataset_of(card, data_dir), known_dataset(card.dataset)
    as_stored = row.tfds or (data_dir is not None and os.path.isfile(data_dir))
    shape = stored.image_shape if stored is not None and as_stored else None
    if (card.origin or {}).get("layout") != "fine-tuned" or shape is None or shape == row.image_shape:
        return load_split(row, split, data_dir, most=most)
    images, labels = load_split(dataclasses.replace(row, image_shape=shape), split, data_dir)
    height, width, _ = card.image_shape
    return prepare_images(images, (height, width)), labels


def open_images(card: Card, split: str, data_dir: str | os.PathLike | None) -> Source | None:
    """Opens images of a card's dataset on disk, without decoding any.

    Args:
        card, split, data_dir: see `load_images`.

    Returns:
        Source of encoded images; None if the data are arrays, for `load_images`.

    Raises:
        ValueError, OSError, ImportError: see `keras_resv2.data.sources.open_source`.
    """
    row = dataset_of(card, data_dir)
    if row.streamed:
        return open_source(row.name, data_dir, split)
    if row.tfds or data_dir is None or not os.path.isdir(data_dir):
        return None
    return FolderSource(data_dir, split, row.class_names)


def class_spellings(card: Card) -> list[tuple[str, ...]]:
    """Returns the names of a card's classes, and for ImageNet also their WordNet IDs.

    Raises:
        ValueError, OSError: see `class_names`.
    """
    numbers = [tuple(number for number, _ in _class_index(card))] if card.class_index else []
    return [tuple(class_names(card)), *numbers]


def _dataset(name):
    """Returns a dataset of the registry if it has class names, else None."""
    row = DATASETS.get(name) if isinstance(name, str) else None
    return row if row and row.class_names else None


def decode_predictions(
    predictions: np.ndarray, name: str | os.PathLike | Card, top: int = 5
) -> list[list[tuple[str, float]]]:
    """Returns the names of the most probable classes of each image.

    Args:
        predictions: array ``(images, classes)``, the outputs of the model; those of quantized networks work too.
        name: name of the pretrained weights, see `from_pretrained`; or their `Card`; or a dataset of
            `keras_resv2.data.DATASETS` with class names, such as "cifar100".
        top: number of classes per image.

    Returns:
        A list for each image of pairs ``(class name, probability)``, the most probable first.

    Raises:
        ValueError: if `predictions` has another shape or contains NaN or infinite values, or the weights do not exist.
        OSError: if class names that are downloaded on first use are unavailable.

    Example:

    >>> decode_predictions(np.eye(10)[:1], "resnet20-cifar10", top=1)
    [[('airplane', 1.0)]]
    """
    known = name if isinstance(name, Card) else _dataset(name) or pretrained_card(name)
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or predictions.shape[1] != len(known.class_names):
        raise ValueError(
            f"predictions of {known.name} must have the shape (images, {len(known.class_names)}), not "
            f"{predictions.shape}."
        )
    check_count("top", top)
    check_finite(predictions)
    if predictions.dtype.kind in "iu":  # quantized network: negating the smallest integer overflows
        predictions = predictions.astype("int64")
    names = class_names(known) if isinstance(known, Card) else known.class_names
    return [[(names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in predictions]
