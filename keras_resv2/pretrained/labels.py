"""From class probabilities to names."""

import hashlib
import json
import os

import numpy as np

from keras_resv2.choices import check_count
from keras_resv2.data import DATASETS
from keras_resv2.evaluation import check_finite
from keras_resv2.files import open_regular
from keras_resv2.pretrained import download
from keras_resv2.pretrained.card import Card
from keras_resv2.pretrained.checksum import agrees
from keras_resv2.pretrained.store import find_card, home

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
        names = [index[number][1] for number in card.class_names]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        names = [None]
    if not all(isinstance(name, str) and name.isprintable() for name in names):
        raise ValueError(f"{url} does not hold the names of {len(card.class_names):,} classes by number.")
    return tuple(names)


def _dataset(name):
    """The row of the registry of that name, if it has class names; else None."""
    row = DATASETS.get(name) if isinstance(name, str) else None
    return row if row and row.class_names else None


def decode_predictions(
    predictions: np.ndarray, name: str | os.PathLike | Card, top: int = 5
) -> list[list[tuple[str, float]]]:
    """The most probable classes of each picture, by name.

    Args:
        predictions: array ``(pictures, classes)``: what the model gives; scores of a quantized network too.
        name: of the pretrained weights, as `from_pretrained` takes it; or their `Card`; or a dataset of
            `keras_resv2.data.DATASETS` that has class names, as "cifar100".
        top: how many classes per picture.

    Returns:
        List of one list per picture of pairs ``(class name, probability)``, the most probable first.

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
            f"predictions of {known.name} have the shape (pictures, {len(known.class_names)}), not {predictions.shape}."
        )
    check_count("top", top)
    check_finite(predictions)
    if predictions.dtype.kind in "iu":  # of a quantized network: the negative of its least number overflows
        predictions = predictions.astype("int64")
    names = class_names(known) if isinstance(known, Card) else known.class_names
    return [[(names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in predictions]
