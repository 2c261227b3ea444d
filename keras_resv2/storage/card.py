"""The card: what a weight file is, how it was made and what was measured of it."""

import dataclasses
import json
import os
import pathlib
import re

from keras_resv2.files import open_regular
from keras_resv2.storage.card_schema import check_class_index, check_fields

LARGEST = 4 << 20  # bytes: a card of 20,000 classes has 0.5 million
VERSION = re.compile("[0-9]{1,9}")

# What the fields of weights from elsewhere are where nothing is known.
NUMBERS = ("test_error", "test_errors_first_2000", "test_images", "median_error", "paper_error", "size", "sha256")
TRAINING = ("paper", "recipe", "command", "seed", "steps", "wall_seconds", "hardware", "backend", "commit")
DICTIONARIES = ("dataset_sha256", "seed_errors", "recipe_values", "versions")
UNKNOWN = {**dict.fromkeys(NUMBERS + TRAINING), **{name: {} for name in DICTIONARIES}}


@dataclasses.dataclass(frozen=True)
class Card:
    """One version of one weight file; `card.json` beside the file holds the same fields.

    Of weights that another library trained, `origin` says where they come from, and what was not measured
    or is not known is None or empty.

    Attributes:
        name: ``<architecture>[_<variant>]-<dataset>``.
        version: from 1; a published version never changes.
        architecture: one of `keras_resv2.list_architectures()`.
        arguments: what the builder takes besides its defaults.
        parameters: number of trainable parameters.
        dataset: that the weights were trained on.
        class_names: in the order of the outputs; numbers where `class_index` has the names.
        image_shape: of the images it was trained on, (height, width, channels).
        dataset_sha256: fingerprint of the images and labels of each split.
        test_error: percent of the test images that this file gets wrong, one view per image, float32.
        test_errors_first_2000: how many of the first 2,000 test images it gets wrong: a quick check.
        test_images: number of test images.
        seed_errors: test error, percent, of every run of this recipe, by seed.
        median_error: of `seed_errors`, percent.
        paper_error: the paper's figure, percent; None where the papers have none.
        paper: where that figure stands.
        recipe, recipe_values, command, seed, steps: how it was trained.
        wall_seconds, hardware, backend, versions, commit: on what, how long, from which source.
        size, sha256: of the weight file, bytes and hex.
        file: name of the weight file.
        url: where the file can be had when it is not beside the card; None if nowhere.
        license: of the weights.
        origin: of weights from another library: file, sha256 or md5, layout, and what it does not say and was
            assumed; url if it is fetched. None for weights that this package trained.
        class_index: where the class names are fetched when first asked for: url, md5, classes.
        train_images: number of training images; None on older cards, which have all of the dataset.
        initial_weights: weights that the training started from; None for random ones.
        details: what `keras_resv2.metrics.full_report` measured of this file; None where nothing was.
        folder: where the card was read; not part of the file.
    """

    name: str
    version: int
    architecture: str
    arguments: dict
    parameters: int
    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dataset_sha256: dict
    test_error: float | None
    test_errors_first_2000: int | None
    test_images: int | None
    seed_errors: dict
    median_error: float | None
    paper_error: float | None
    paper: str | None
    recipe: str | None
    recipe_values: dict
    command: str | None
    seed: int | None
    steps: int | None
    wall_seconds: float | None
    hardware: str | None
    backend: str | None
    versions: dict
    commit: str | None
    size: int | None
    sha256: str | None
    file: str = "weights.h5"
    url: str | None = None
    license: str = "Apache-2.0"
    origin: dict | None = None
    class_index: dict | None = None
    train_images: int | None = None
    initial_weights: str | None = None
    details: dict | None = None
    folder: pathlib.Path | None = dataclasses.field(default=None, compare=False)

    @property
    def full_name(self):
        """Name with version, as ``resnet20-cifar10@1``."""
        return f"{self.name}@{self.version}"

    def to_json(self):
        """Text of card.json."""
        fields = dataclasses.asdict(self)
        del fields["folder"]
        return json.dumps(fields, indent=2) + "\n"


def read_card(path):
    """The card in a file.

    Args:
        path: of a card.json.

    Returns:
        `Card`, whose fields are as `keras_resv2.storage.card_schema` has them. Other keys are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or lacks a field, or a field is not what it may be; the message names it.
    """
    path = pathlib.Path(path)
    with open_regular(path, LARGEST) as file:
        text = file.read(LARGEST + 1)
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a weight card: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a weight card: it holds a {type(content).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(Card) if field.name != "folder"}
    content = {key: value for key, value in content.items() if key in fields}
    try:
        if content.get("origin"):
            content = {**UNKNOWN, **content}
        if content.get("class_index") and isinstance(content["class_index"], dict):
            check_class_index(content["class_index"])
            content["class_names"] = tuple(map(str, range(content["class_index"]["classes"])))
        missing = [
            repr(name) for name, field in fields.items() if name not in content and field.default is dataclasses.MISSING
        ]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing.")
        defaults = {name: field.default for name, field in fields.items()}
        check_fields({**defaults, **content})
    except ValueError as error:
        raise ValueError(f"{path} is not a complete weight card: {error}") from None
    for key in ("class_names", "image_shape"):
        content[key] = tuple(content[key])
    return Card(**content, folder=path.parent)


def _refuse_constant(name):
    raise ValueError(f"{name} is not a number of JSON")


def check_place(card):
    """Returns a card, or raises ValueError unless it is in the folder ``<name>/<version>`` that it belongs into."""
    place = pathlib.Path(os.path.abspath(card.folder)).parts[-2:]
    if (card.name, str(card.version)) != place:
        path = card.folder / "card.json"
        raise ValueError(f"{path} is the card of {card.full_name}: its folder must be {card.name}/{card.version}.")
    return card


def split_name(name):
    """``("resnet20-cifar10", 1)`` from ``"resnet20-cifar10@1"``; version None without ``@``.

    Raises:
        ValueError: what follows ``@`` is not a version number.
    """
    if not isinstance(name, str):
        raise ValueError(f"a pretrained name is text such as 'resnet20-cifar10', not {name!r}.")
    base, at, version = name.partition("@")
    if not at:
        return base, None
    if not VERSION.fullmatch(version):
        raise ValueError(f"{name!r}: a version is a whole number, as in '{base}@1'.")
    return base, int(version)
