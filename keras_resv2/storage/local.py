"""Finds cards and weight files on this machine: in the package, the source tree, the cache, or a user's folder."""

import os
import pathlib
import re

from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.argument_checks import nearest, some
from keras_resv2.files import check_file_name
from keras_resv2.storage import download
from keras_resv2.storage.card import VERSION, Card, check_place, folder_of, read_card, split_name
from keras_resv2.storage.checksum import sha256

CARD = "card.json"
FOREIGN = (".safetensors", ".pth", ".pt", ".bin")  # endings of other libraries' weight files
CARDS_BELOW = (f"*/{CARD}", f"*/*/{CARD}")  # of folders that contain weight folders


def home() -> pathlib.Path:
    """Returns the cache directory: the environment variable KERAS_RESV2_HOME, or ~/.keras/keras_resv2."""
    return pathlib.Path(os.path.expanduser(os.environ.get("KERAS_RESV2_HOME") or "~/.keras/keras_resv2"))


def weight_folders() -> list[pathlib.Path]:
    """Lists the folders with ``<name>/<version>/card.json``; the first that has a version takes precedence."""
    package = pathlib.Path(__file__).resolve().parents[1]
    installed, source_tree = package / "weights", package.parent / "weights"
    # Last, the cards of third-party weights: once converted, they have a card in the cache.
    return [installed if installed.is_dir() else source_tree, home() / "weights", package / "storage" / "third_party"]


def converted_root(card: Card) -> pathlib.Path:
    """Returns the folder below which the weights of a third party's card are converted.

    Weights that this package names are found by their name afterwards. Those of a user's folder are not: they cannot
    replace others of the same name.
    """
    if folder_of(card).parent.parent in (weight_folders()[-1], home() / "weights"):
        return home() / "weights"
    return home() / "converted" / sha256(folder_of(card) / CARD)


def card_paths() -> dict[str, dict[int, pathlib.Path]]:
    """Returns the paths of all cards as ``{name: {version: path}}``, in ascending order of versions."""
    found: dict[str, dict[int, pathlib.Path]] = {}
    for folder in weight_folders():
        for path in folder.glob(f"*/*/{CARD}"):
            version = path.parent.name
            if VERSION.fullmatch(version):
                found.setdefault(path.parent.parent.name, {}).setdefault(int(version), path)
    ordered = sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    return {name: dict(sorted(found[name].items())) for name in ordered}


def is_folder(name: object) -> bool:
    """Returns whether a pretrained name is the path of a weight folder."""
    return isinstance(name, os.PathLike) or (isinstance(name, str) and (os.sep in name or "/" in name))


def contains_card(name: str | os.PathLike) -> bool:
    """Returns whether a name without separators is that of a folder here with weight folders, such as an --out."""
    folder = pathlib.Path(name)
    return any(True for pattern in (CARD, *CARDS_BELOW) for _ in folder.glob(pattern))


def pinned_name(name: str | os.PathLike, card: Card) -> str:
    """Returns a name that always finds the same weights: that of pretrained weights with its version, or a path.

    Args:
        name: pretrained name, or the path of a weight folder or of a folder that contains one.
        card: its card.
    """
    if not _opens_folder(name, card_paths()):
        return card.full_name
    # As text, a path without a separator could be the name of published weights.
    return os.path.join(os.curdir, name) if isinstance(name, os.PathLike) and not is_folder(str(name)) else str(name)


def _opens_folder(name, published):
    """Returns whether `find_card` opens a folder: a path, or a folder here unless published weights have its name."""
    return is_folder(name) or (split_name(name)[0] not in published and contains_card(name))


def find_card(name: str | os.PathLike) -> Card:
    """Returns the card of a pretrained name or folder on this machine.

    Args:
        name: ``"resnet20-cifar10"`` for the newest version, ``"resnet20-cifar10@1"`` for a specific one; or the path of
            a folder with a card and its weight file, such as ``"converted/resnet18-imagenet/1"``, or of a folder that
            contains one such folder, such as the ``--out`` of ``keras-resv2 finetune``. Published names take precedence
            over folders of the same name in the working directory.

    Returns:
        `keras_resv2.storage.card.Card`.

    Raises:
        ValueError: if the name is unknown (the message lists the closest ones), the version is unknown (the message
            lists the versions), the card is damaged, or this package and the user's cache have different weights of
            that name and version.
        FileNotFoundError: if a path does not contain a card.
    """
    if str(name).endswith((".keras", ".h5")):
        raise ValueError(
            f"{name} is a weight or model file; expected a weight folder, <name>/<version> with {CARD} "
            "(written by `keras-resv2 finetune` and `convert`). Use keras.models.load_model to open a .keras file."
        )
    paths = card_paths()
    if _opens_folder(name, paths):
        return check_place(read_card(card_in(pathlib.Path(name))))
    base, version = split_name(name)
    if base not in paths:
        raise ValueError(f"there are no pretrained weights {base!r}; {_hint(base.lower(), paths)}")
    versions = paths[base]
    if version is None:
        version = max(versions)
    if version not in versions:
        available = ", ".join(f"{base}@{v}" for v in versions)
        older = version < max(versions)
        hint = " Replaced versions are in weights/ of the repository: pass the path of one." if older else ""
        raise ValueError(f"{base} has no version {version}; available: {available}.{hint}")
    return _check_alone(check_place(read_card(versions[version])))


def _hint(name, published):
    """Returns what to do about a name, in lower case, that is not one of the published weights."""
    if not published:
        return f"none were found in {' or '.join(map(str, weight_folders()))}."
    for key, row in ARCHITECTURES.items():
        if name in (key, row.builder.lower()):
            trained = some([other for other in published if other.startswith(f"{key}-")])
            return (
                f"{key} is an architecture: "
                + (f"choose its weights ({trained}), or " if trained else "")
                + f"build it with random weights by keras_resv2.{row.builder}()."
            )
    return f"did you mean {nearest(name, published)}?"


def _check_alone(card):
    """Returns a card; raises ValueError if other weights of the same name and version are in the user's cache."""
    other = home() / "weights" / card.name / str(card.version) / CARD
    if other != folder_of(card) / CARD and card.sha256 and other.is_file() and read_card(other).sha256 != card.sha256:
        raise ValueError(
            f"{card.full_name} is the name of two files: this package's, and that in {other.parent}, which was "
            "converted or trained here. Rename that one (its folder, and the name in its card.json)."
        )
    return card


def card_in(folder: pathlib.Path) -> pathlib.Path:
    """Returns the card's path in a weight folder ``<name>/<version>``; the newest version's in a parent folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the folder contains weights of several names.
    """
    path = folder / CARD
    if VERSION.fullmatch(folder.resolve().name) and path.is_file():
        return path
    for pattern in CARDS_BELOW:
        found = [card for card in sorted(folder.glob(pattern)) if VERSION.fullmatch(card.parent.name)]
        names = sorted({card.parent.parent.name for card in found})
        if len(names) > 1:
            raise ValueError(f"{folder} contains several weight folders, {some(names)}: choose one of them.")
        if found:
            return max(found, key=lambda card: int(card.parent.name))
    if not path.is_file():
        foreign = some(sorted(file.name for ending in FOREIGN for file in folder.glob(f"*{ending}")))
        raise FileNotFoundError(
            f"{path} does not exist: a weight folder is <name>/<version> with {CARD}; a folder that contains one, such "
            "as the --out of finetune, works too."
            + (
                f" Convert weights of other libraries ({foreign}) first: keras-resv2 convert FILE --out DIR."
                if foreign
                else ""
            )
        )
    return path


def weight_path(card: Card) -> pathlib.Path:
    """Returns the path of a card's verified weight file, downloading it into the cache if necessary.

    Args:
        card: `keras_resv2.storage.card.Card`.

    Returns:
        `pathlib.Path` of a file whose SHA-256 matches the card.

    Raises:
        FileNotFoundError: if the file does not exist and the card has no URL.
        ValueError: if the file is damaged.
        OSError: if it cannot be downloaded or the cache is not writable.
    """
    name = check_file_name(card.file, "file")  # the card may have been created in Python
    beside = folder_of(card) / name
    if beside.exists():
        verify_checksum(beside, card)
        return beside
    if any(folder in folder_of(card).parents for folder in weight_folders()):
        place = pathlib.Path("weights", check_file_name(card.name, "name"), str(card.version))
    else:  # somebody's folder: others may have the same name and version
        place = pathlib.Path("of_folders", str(card.sha256))
    cached = home() / place / name
    if not cached.exists():
        if not card.url or card.sha256 is None:
            raise FileNotFoundError(
                f"the weight file of {card.full_name}, {beside}, is missing and its card has no URL. {_mend(beside)}"
            )
        download.fetch(card.url, cached, card.size, card.sha256)
    verify_checksum(cached, card)
    return cached


def verify_checksum(path: pathlib.Path, card: Card) -> None:
    """Raises ValueError unless a file's size and SHA-256 match the card."""
    if card.sha256 is None:
        raise ValueError(
            f"weight file {path} cannot be verified: its card has no checksum. Delete it: the weights of "
            f"{card.full_name} are converted from the file that the card names."
        )
    size = path.stat().st_size
    if size != card.size:
        raise ValueError(f"weight file {path} is damaged: {size} bytes, {card.size} expected. {_mend(path)}")
    if sha256(path) != card.sha256:
        raise ValueError(f"weight file {path} is damaged: its SHA-256 does not match {card.full_name}. {_mend(path)}")


def _mend(path):
    if home() in path.parents:
        converted = (path.parent / CARD).exists()
        return f"Delete {path.parent if converted else 'it'} to download it again."
    if any(folder in path.parents for folder in weight_folders()):
        return "Reinstall the package."
    return "Copy the folder again, or write it again."
