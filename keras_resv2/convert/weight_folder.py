"""Writes converted weights as a weight folder, with a card that states their origin."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_resv2.architectures import find_architecture
from keras_resv2.convert.detection import Detected
from keras_resv2.data.registry import known_dataset
from keras_resv2.files import atomic_write
from keras_resv2.models.config import STEMS, resolve_layout
from keras_resv2.storage.card import UNKNOWN, Card
from keras_resv2.storage.card_schema import check_fields
from keras_resv2.storage.checksum import sha256
from keras_resv2.storage.local import CARD
from keras_resv2.storage.weight_file import count_trainable, write_weights


def make_card(
    found: Detected,
    name: str,
    version: int,
    dataset: str,
    class_names: Sequence[str] | None = None,
    license: str = "unknown",
) -> Card:
    """Creates the card of converted weights with what is known about them.

    Args:
        found: `Detected`, with a classifier.
        name, version: of the weight folder.
        dataset: that the weights were trained on, as one knows; of "cifar10", "cifar100" and "imagenet"
            the class names are known too.
        class_names: in the order of the outputs; None for the dataset's, else "class 0", ...
        license: of the weights, as one knows.

    Returns:
        `Card`, of which `write_folder` fills in the file's size and sum.

    Raises:
        ValueError: if the weights have no classifier, one that does not end in softmax, or another number of classes.

    Example:

    >>> make_card(detect("resnet18.pth"), "resnet18-imagenet", 1, "imagenet").test_error  # doctest: +SKIP
    """
    if found.classes is None:
        raise ValueError(
            f"{found.source} has no classifier, which a weight folder needs: use it in Python, by "
            "keras_resv2.convert.from_pytorch or from_keras_applications."
        )
    if found.classifier_activation != "softmax":
        raise ValueError(
            f"{found.source} ends in {found.classifier_activation}, and the networks of weight folders end in softmax: "
            "use it in Python, by keras_resv2.convert.from_keras_applications."
        )
    known = known_dataset(dataset) if class_names is None else None
    index = known.class_index if known else None
    if index:
        class_names = [str(number) for number in range(index["classes"])]
    elif class_names is None:
        numbered = [f"class {number}" for number in range(found.classes)]
        class_names = (known.class_names if known else ()) or numbered
    class_names = tuple(class_names)
    if len(class_names) != found.classes:
        raise ValueError(f"{found.source} has {found.classes} classes, {len(class_names)} names are given.")
    stem = found.arguments.get("stem") or resolve_layout(find_architecture(found.architecture).depth).stem
    path = pathlib.Path(found.source)
    return Card(
        **UNKNOWN,
        name=name,
        version=version,
        architecture=found.architecture,
        arguments=found.arguments,
        parameters=count_trainable(found.weights),
        dataset=dataset,
        class_names=class_names,
        image_shape=STEMS[stem].image_shape,
        license=license,
        origin={
            "file": path.name,
            "sha256": sha256(path) if path.is_file() else None,
            "layout": found.layout,
            "assumed": list(found.assumed),
        },
        class_index=index,
    )


def check_target(card: Card, root: str | os.PathLike) -> pathlib.Path:
    """Checks that `write_folder` can write a card, before the work that precedes it.

    Args:
        card, root: as `write_folder` takes them.

    Returns:
        `pathlib.Path` of the weight folder.

    Raises:
        FileExistsError: if it already contains a card: a version never changes.
        ValueError: if a field of the card is not valid.
    """
    folder = pathlib.Path(root) / card.name / str(card.version)
    if (folder / CARD).exists():
        raise FileExistsError(f"{folder} already exists: choose another version or another --out.")
    check_card(card)
    return folder


def check_card(card: Card) -> None:
    """Raises ValueError if a field of a card for `write_folder`, which fills in the size and the sum, is not valid."""
    check_fields(dataclasses.asdict(card) | {"size": 1, "sha256": "0" * 64})


def write_folder(weights: dict[str, np.ndarray], card: Card, root: str | os.PathLike) -> pathlib.Path:
    """Writes ``<root>/<name>/<version>/`` with the weight file and, last, its card.

    Args:
        weights: dictionary from ``<layer>/<variable>`` to an array, as `Detected` has them.
        card: `Card`, whose size and sum are filled in.
        root: folder of weight folders; created if necessary.

    Returns:
        `pathlib.Path` of the folder, which `from_pretrained` accepts.

    Raises:
        FileExistsError: if it already contains a card: a version never changes.
        ValueError: if a field of the card is not valid.
        OSError: if the folder cannot be written.
    """
    folder = check_target(card, root)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / card.file
    write_weights(weights, path)
    card = dataclasses.replace(card, size=path.stat().st_size, sha256=sha256(path), folder=folder)
    with atomic_write(folder / CARD) as partial:
        partial.write_text(card.to_json(), encoding="utf-8")
    return folder
