"""The card of a weight file: what it contains, how it was trained and what was measured."""

import dataclasses
import json
import os
import pathlib
import re
from typing import Any

from keras_resv2.data.registry import known_dataset
from keras_resv2.files import open_regular
from keras_resv2.storage.card_schema import check_class_index, check_fields

LARGEST = 4 << 20  # bytes; a card with 20,000 classes has 0.5 million
USUAL_CROP, LEAST_CROP = 224 / 256, 0.1  # fractions of the shorter side; a card from a stranger may say anything
VERSION = re.compile("[0-9]{1,9}")

# Defaults of the fields of third-party weights where nothing is known.
NUMBERS = ("test_error", "test_errors_first_2000", "test_images", "median_error", "paper_error", "size", "sha256")
TRAINING = ("paper", "recipe", "command", "seed", "steps", "wall_seconds", "hardware", "backend", "commit")
DICTIONARIES = ("dataset_sha256", "seed_errors", "recipe_values", "versions")
UNKNOWN = {**dict.fromkeys(NUMBERS + TRAINING), **{name: {} for name in DICTIONARIES}}


@dataclasses.dataclass(frozen=True)
class Card:
    """One version of one weight file; `card.json` next to the file has the same fields.

    For weights trained with another library, `origin` says where they come from, and fields that were not measured or
    are unknown are None or empty.

    Attributes:
        name: ``<architecture>[_<variant>]-<dataset>``.
        version: version number from 1; a published version never changes.
        architecture: one of `keras_resv2.list_architectures()`, or of another depth, such as "resnet14".
        arguments: non-default arguments of the builder.
        parameters: number of trainable parameters.
        dataset: name of the training dataset.
        class_names: class names in the order of the outputs; indices if `class_index` has the names. A card with an
            `origin` may omit those of a dataset of the registry.
        image_shape: shape of the training images, (height, width, channels).
        dataset_sha256: SHA-256 of the images and labels of each split.
        test_error: single-crop test error of this file in percent, in float32.
        test_errors_first_2000: number of misclassified images among the first 2,000 test images, for a quick check.
        test_images: number of test images.
        seed_errors: test error in percent of every run of this recipe, by seed.
        median_error: median of `seed_errors`, in percent.
        paper_error: test error reported in the paper, in percent; None if not reported.
        paper: where the paper reports it.
        recipe, recipe_values, command, seed, steps: how the weights were trained.
        wall_seconds, hardware, backend, versions, commit: duration, hardware and software of the training.
        size, sha256: size in bytes and SHA-256 (hex) of the weight file.
        file: name of the weight file.
        url: where to download the file if it is not next to the card; None if unavailable.
        license: license of the weights.
        origin: for weights from another library: file, sha256, sha1 or md5, layout, and what had to be assumed; url if
            the file is downloaded, alone or in a zip archive. None for weights trained with this package.
        class_index: url, md5 and classes of the file of class names. ImageNet's is part of the package; others are
            downloaded on first use.
        train_images: number of training images; None on older cards, whose weights used the whole dataset.
        initial_weights: weights that training started from; None for random initialization.
        details: as measured by ``keras-resv2 evaluate --full``: class_errors (percent), calibration_error,
            negative_log_likelihood and jpeg_error (percent); None if not measured.
        folder: folder that the card was read from; not part of the file.
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
    def full_name(self) -> str:
        """Name with version, such as ``resnet20-cifar10@1``."""
        return f"{self.name}@{self.version}"

    @property
    def image_options(self) -> dict[str, Any]:
        """Arguments of `keras_resv2.read_image` for images as in the evaluation behind the card's error.

        Returns:
            Dictionary of size, crop and interpolation. ImageNet networks whose authors do not state a crop have 224 of
            256 pixels; others the whole short side.

        Raises:
            ValueError: if the crop that the card states is not a number from 0.1 to 1.
        """
        origin, size = self.origin or {}, tuple(self.image_shape[:2])
        row = known_dataset(self.dataset)
        # Fine-tuning reads the images of all datasets in the same way.
        streamed = row is not None and row.streamed and origin.get("layout") != "fine-tuned"
        crop = origin.get("crop_pct", USUAL_CROP if streamed else 1.0)
        if isinstance(crop, bool) or not isinstance(crop, int | float) or not LEAST_CROP <= crop <= 1:
            raise ValueError(
                f"the card of {self.full_name} has the crop fraction {crop!r}, which must be a number from "
                f"{LEAST_CROP} to 1."
            )
        bicubic = origin.get("interpolation", "bilinear" if streamed else "bicubic") == "bicubic"
        return {"size": size, "crop": crop, "interpolation": "bicubic" if bicubic else "bilinear"}

    def to_json(self) -> str:
        """Returns the text of card.json."""
        fields = dataclasses.asdict(self)
        del fields["folder"]
        return json.dumps(fields, indent=2) + "\n"


def read_card(path: str | os.PathLike) -> Card:
    """Reads a card from a file.

    Args:
        path: path of a card.json.

    Returns:
        `Card` with fields valid according to `keras_resv2.storage.card_schema`. Unknown keys are ignored.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not JSON, lacks a field, or a field is not valid; the message names the field.
    """
    path = pathlib.Path(path)
    with open_regular(path, LARGEST) as file:
        text = file.read(LARGEST + 1)
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a weight card: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a weight card: it contains a {type(content).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(Card) if field.name != "folder"}
    content = {key: value for key, value in content.items() if key in fields}
    try:
        if content.get("origin"):
            row = known_dataset(content.get("dataset"))
            names = {"class_names": row.class_names} if row and row.class_names else {}
            content = {**UNKNOWN, **names, **content}
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
    raise ValueError(f"{name} is not a valid JSON number")


def folder_of(card: Card) -> pathlib.Path:
    """Returns the folder that a card was read from.

    Raises:
        ValueError: if the card was created in Python.
    """
    if card.folder is None:
        raise ValueError(f"the card of {card.full_name} was not read from a folder.")
    return card.folder


def check_place(card: Card) -> Card:
    """Returns a card; raises ValueError unless it is in its folder, ``<name>/<version>``, or a link to it."""
    folder = folder_of(card)
    places = [pathlib.Path(path(folder)).parts[-2:] for path in (os.path.abspath, os.path.realpath)]
    if (card.name, str(card.version)) not in places:
        path = folder / "card.json"
        raise ValueError(f"{path} is the card of {card.full_name}: its folder must be {card.name}/{card.version}.")
    return card


def split_name(name: Any) -> tuple[str, int | None]:
    """Splits ``"resnet20-cifar10@1"`` into ``("resnet20-cifar10", 1)``; the version is None without ``@``.

    Raises:
        ValueError: if the part after ``@`` is not a version number.
    """
    if not isinstance(name, str):
        raise ValueError(f"a pretrained name is text such as 'resnet20-cifar10', not {name!r}.")
    base, at, version = name.partition("@")
    if not at:
        return base, None
    if not VERSION.fullmatch(version):
        raise ValueError(f"{name!r}: a version is a whole number, as in '{base}@1'.")
    return base, int(version)
