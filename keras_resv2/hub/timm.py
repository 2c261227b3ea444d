"""Converts timm repositories on the Hub, such as ``hf://timm/resnet18.a1_in1k``, once into the cache.

They contain ``config.json`` (architecture, classes, pixel statistics, crop) and ``model.safetensors``, as written by
timm's `save_for_hf`. Neither timm nor PyTorch is needed. The names of weights are mapped by
`keras_resv2.convert.layouts.torchvision` (`resnet18` to `resnet200`, `wide_resnet50_2`, `wide_resnet101_2`) and
`keras_resv2.convert.layouts.timm` (`resnetv2_18` to `resnetv2_152`).
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable

from keras_resv2.argument_checks import nearest
from keras_resv2.convert.source_pixels import LARGEST, named_pixels
from keras_resv2.convert.timm_config import check_model_args
from keras_resv2.files import check_file_name
from keras_resv2.hub.client import PREFIX, fetch_files
from keras_resv2.storage import download, local
from keras_resv2.storage.card import Card, read_card

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_CLASSES = 100_000
CONFIG_SIZE, MOST_WEIGHT_BYTES = {CONFIG: (2, 2**24)}, 2**30
ARCHITECTURES = {
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 200)},
    **{f"resnetv2_{depth}": f"preact_resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"wide_resnet{depth}_2": f"wide_resnet{depth}_2" for depth in (50, 101)},
}
# Keys of `pretrained_cfg` that are copied to the card: how its authors evaluate, and where the weights come from.
KEPT = ("tag", "crop_pct", "crop_mode", "interpolation", "test_input_size", "test_crop_pct", "origin_url", "paper_ids")


@dataclasses.dataclass(frozen=True)
class Repository:
    """The content of a config.json.

    Attributes:
        architecture: name in this package.
        preprocessing: see `keras_resv2.ResNet`.
        image_shape: shape of the training images.
        dataset: "imagenet", or the tag of the weights.
        class_names: class names; None if the file has none, or they are ImageNet's.
        license: license given in the file.
        origin: other values that are copied to the card.
    """

    architecture: str
    preprocessing: str | tuple
    image_shape: tuple
    dataset: str
    class_names: tuple | None
    license: str
    origin: dict


def read_config(path: pathlib.Path, reference: str) -> Repository:
    """Reads a timm config.json.

    Args:
        path: path of the file.
        reference: the user's input, for messages.

    Returns:
        `Repository`.

    Raises:
        ValueError: if it is not a timm config, or describes a network that this package does not build; the message
            says why.
    """
    if not path.is_file():
        raise ValueError(
            f"{reference} contains neither {local.CARD} nor {CONFIG}: it is not a repository of keras-resv2 or timm."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, trained = config["architecture"], config["pretrained_cfg"]
        classes = config["num_classes"]
        others = config.get("model_args") or {}
        dictionaries = all(isinstance(value, dict) for value in (trained, others))
        if not (isinstance(name, str) and dictionaries and isinstance(classes, int)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{reference} contains neither a keras-resv2 card nor a timm {CONFIG}: it is not a repository of "
            "weights that this package can read."
        ) from None
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{reference} is timm's {name!r}, which this package does not build; did you mean "
            f"{nearest(name, ARCHITECTURES)}?"
        )
    check_model_args(config, reference)
    tag = str(trained.get("tag") or "")
    known = classes == 1000 and tag.endswith("in1k") and not config.get("label_names")
    return Repository(
        architecture=ARCHITECTURES[name],
        preprocessing=_preprocessing(trained, reference),
        image_shape=_image_shape(trained, reference),
        dataset="imagenet" if known else tag or "unknown",
        class_names=None if known else _class_names(config, classes, reference),
        license=str(trained.get("license") or "unknown"),
        origin={key: trained[key] for key in KEPT if trained.get(key) is not None},
    )


def _preprocessing(trained, reference):
    """Returns the name of the pixel statistics if they have one, else the values."""
    return named_pixels(*(_three(trained, key, reference, scale=255) for key in ("mean", "std")))


def _three(trained, key, reference, scale=1):
    value = trained.get(key)
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
    if not numbers or not all(-LARGEST < v < LARGEST for v in value):
        raise ValueError(f"{reference}: {key} in {CONFIG} must be three numbers, not {str(value)[:60]}.")
    return tuple(round(float(v) * scale, 6) for v in value)


def _image_shape(trained, reference):
    channels, height, width = map(int, _three(trained, "input_size", reference))
    if channels != 3:
        raise ValueError(
            f"{reference} expects images with {channels} channels; only networks with three can be converted."
        )
    return height, width, channels


def _class_names(config, classes, reference):
    """Returns the descriptions of the classes, else their names; None if there are neither."""
    names, described = config.get("label_names"), config.get("label_descriptions") or {}
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names.get(str(number), f"class {number}") for number in range(min(classes, MOST_CLASSES))]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(described, dict)):
        raise ValueError(f"{reference}: label_names in {CONFIG} must be texts, and label_descriptions a dictionary.")
    if len(names) != classes:
        raise ValueError(f"{reference}: {CONFIG} names {len(names)} of {classes} classes.")
    return tuple(str(described.get(name, name)) for name in names)


def convert(reference: str, repository: str, commit: str, fetch_more: Callable) -> Card:
    """Returns the card of a timm repository, converting its weights into the cache if necessary.

    Args:
        reference: the user's input, for messages.
        repository, commit: ``user/name``, and the commit.
        fetch_more: function returned by `keras_resv2.hub.client.fetch_files`.

    Returns:
        `keras_resv2.pretrained.Card`.

    Raises:
        ValueError: if it is not a network that this package builds, or a file is damaged.
        ConnectionError, OSError: if the Hub cannot be reached, or the cache is not writable.
    """
    root = local.home() / "hub" / check_file_name(repository.replace("/", "--"), "repository")
    root = root / check_file_name(commit, "commit")
    name = check_file_name(repository.rpartition("/")[2], "repository")
    said = read_config(fetch_more(CONFIG_SIZE) / CONFIG, reference)
    return _converted(root, name, 1, reference, repository, commit, said, fetch_more)


def fetch(card: Card) -> Card:
    """Converts the repository named in a card's origin (``hub``) into the cache.

    Args:
        card: `keras_resv2.pretrained.Card` of this package for third-party weights.

    Returns:
        `keras_resv2.pretrained.Card` of the converted weights.

    Raises:
        ValueError, ConnectionError, OSError: see `convert`.
    """
    assert card.origin is not None  # third-party weights have one
    repository = card.origin["hub"]
    reference = f"{PREFIX}{repository}"
    folder, fetch_more = fetch_files(reference, repository, None, CONFIG_SIZE)
    said = read_config(folder / CONFIG, reference)
    if said.architecture != card.architecture:
        raise ValueError(f"{reference} is now a {said.architecture}, but {card.full_name} is a {card.architecture}.")
    if said.preprocessing != card.arguments.get("preprocessing"):
        raise ValueError(f"{reference} now has other pixel statistics than {card.full_name}: load it by its own name.")
    # Of training and evaluation, the card has what its error was reported for.
    origin, shape = {**said.origin, **card.origin}, tuple(card.image_shape)
    said = dataclasses.replace(said, origin=origin, license=card.license, image_shape=shape)
    root, commit = local.converted_root(card), folder.name
    return _converted(root, card.name, card.version, reference, repository, commit, said, fetch_more)


def _converted(root, name, version, reference, repository, commit, said, fetch_more):
    # Conversion builds the network, which imports Keras; reading a card does not.
    from keras_resv2.convert.detection import detect
    from keras_resv2.convert.weight_folder import make_card, write_folder

    path = root / name / str(version) / local.CARD
    if path.exists():  # also in a cache that cannot be written
        return read_card(path)
    with download.file_lock(path):
        if not path.exists():
            weights = fetch_more({WEIGHTS: (1, MOST_WEIGHT_BYTES)}) / WEIGHTS
            if not weights.is_file():
                raise ValueError(
                    f"{reference} does not contain {WEIGHTS}: convert weights in other files with keras-resv2 convert."
                )
            found = detect(weights, said.architecture, preprocessing=said.preprocessing)
            card = make_card(found, name, version, said.dataset, said.class_names, said.license)
            origin = {**said.origin, "hub": repository, "commit": commit, **(card.origin or {}), "file": WEIGHTS}
            card = dataclasses.replace(card, origin=origin, image_shape=said.image_shape)
            with download.writes_cache(path):
                write_folder(found.weights, card, root)
    return read_card(path)
