"""From class probabilities to names."""

import dataclasses
import hashlib
import json
import os

import numpy as np

from keras_resv2.argument_checks import check_count
from keras_resv2.data import DATASETS, class_folders, described
from keras_resv2.data.checks import check_finite
from keras_resv2.files import open_regular
from keras_resv2.pretrained import find_card
from keras_resv2.storage import download
from keras_resv2.storage.card import Card
from keras_resv2.storage.checksum import agrees
from keras_resv2.storage.local import home

LARGEST = 16 << 20  # bytes of a file of class names; ImageNet's has 35,000
OLDER = "imagenet_class_index.json"


def class_names(card):
    """Names of a card's classes, in the order of the outputs.

    Where the card has not the names itself but where they are (ImageNet's), they are fetched into the cache
    at the first call.

    Args:
        card: `keras_resv2.pretrained.Card`.

    Returns:
        Tuple of names.

    Raises:
        OSError: the names cannot be fetched.
        ValueError: the file fetched is another than the one expected.
    """
    if card.class_index is None:
        return card.class_names
    return tuple(name for _, name in _class_index(card))


def _class_index(card):
    """Pairs of WordNet's number and the name of each class of ImageNet, fetched into the cache at the first call."""
    url, md5 = card.class_index["url"], card.class_index["md5"]
    # By its sum: the files of two cards may have the same name. Versions before 0.2 went by the name.
    path, older = home() / "class_index" / f"{md5}.json", home() / OLDER
    if older.is_file() and agrees(older, md5):
        path = older
    if not path.exists():
        download.fetch(url, path, None, md5, limit=LARGEST)
    with open_regular(path, LARGEST) as file:
        text = file.read(LARGEST + 1)
    if hashlib.md5(text, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} is damaged: delete it to download it again.")
    try:
        index = json.loads(text)
        pairs = [(index[number][0], index[number][1]) for number in card.class_names]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pairs = [(None, None)]
    if not all(isinstance(word, str) and word.isprintable() for pair in pairs for word in pair):
        raise ValueError(f"{url} does not hold the names of {len(card.class_names):,} classes by number.")
    return pairs


def dataset_of(card, data_dir):
    """The dataset of a card as it is in a place: with folders of the card's classes, whatever the dataset is, or not.

    Args:
        card: `keras_resv2.pretrained.Card`.
        data_dir: as `keras_resv2.data.load_split` takes it; or a folder with a folder of images per class, or with
            such in ``train`` and ``test``. Folders are called by the names of the classes; ImageNet's by WordNet's
            numbers (n01440764) too.

    Returns:
        `keras_resv2.data.Dataset`, for `load_split`.

    Raises:
        ValueError, OSError: as `class_names`.
    """
    row = described(card)
    if data_dir is None or not os.path.isdir(data_dir):
        return row
    if any(os.path.isdir(os.path.join(data_dir, place.split("/")[0])) for place in row.tfds):
        return row
    folders = class_folders(data_dir)
    spellings = [class_names(card)] if folders else []
    if folders and card.class_index:
        spellings.append(tuple(number for number, _ in _class_index(card)))
    for names in spellings:
        if folders & set(names):
            return dataclasses.replace(
                row, class_names=names, image_shape=tuple(card.image_shape), streamed=False, tfds=()
            )
    return row


def _dataset(name):
    """The row of the registry of that name, if it has class names; else None."""
    row = DATASETS.get(name) if isinstance(name, str) else None
    return row if row and row.class_names else None


def decode_predictions(
    predictions: np.ndarray, name: str | os.PathLike | Card, top: int = 5
) -> list[list[tuple[str, float]]]:
    """The most probable classes of each image, by name.

    Args:
        predictions: array ``(images, classes)``: what the model gives; scores of a quantized network too.
        name: of the pretrained weights, as `from_pretrained` takes it; or their `Card`; or a dataset of
            `keras_resv2.data.DATASETS` that has class names, as "cifar100".
        top: how many classes per image.

    Returns:
        List of one list per image of pairs ``(class name, probability)``, the most probable first.

    Raises:
        ValueError: `predictions` has another shape or values that are NaN or infinite, or there are no such weights.
        OSError: ImageNet's class names, which are fetched when first needed, cannot be had.

    Example:

    >>> decode_predictions(np.eye(10)[:1], "resnet20-cifar10", top=1)
    [[('airplane', 1.0)]]
    """
    known = name if isinstance(name, Card) else _dataset(name) or find_card(name)
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or predictions.shape[1] != len(known.class_names):
        raise ValueError(
            f"predictions of {known.name} have the shape (images, {len(known.class_names)}), not {predictions.shape}."
        )
    check_count("top", top)
    check_finite(predictions)
    if predictions.dtype.kind in "iu":  # of a quantized network: the negative of its least number overflows
        predictions = predictions.astype("int64")
    names = class_names(known) if isinstance(known, Card) else known.class_names
    return [[(names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in predictions]
