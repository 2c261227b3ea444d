"""Where cards and weight files are: in the package, in the source tree, in the cache, or in a folder of one's own."""

import os
import pathlib
import re

from keras_resv2.choices import nearest, some
from keras_resv2.files import check_file_name
from keras_resv2.pretrained import download
from keras_resv2.pretrained.card import VERSION, check_place, read_card, split_name
from keras_resv2.pretrained.checksum import sha256

CARD = "card.json"


def home():
    """The cache directory: the environment's KERAS_RESV2_HOME, or ~/.keras/keras_resv2."""
    return pathlib.Path(os.path.expanduser(os.environ.get("KERAS_RESV2_HOME") or "~/.keras/keras_resv2"))


def weight_folders():
    """Folders that hold ``<name>/<version>/card.json``, the first that has a version wins."""
    package = pathlib.Path(__file__).resolve().parents[1]
    installed, source_tree = package / "weights", package.parent / "weights"
    # Last, the cards of weights that others publish: once converted, they have one in the cache.
    return [installed if installed.is_dir() else source_tree, home() / "weights", package / "pretrained" / "published"]


def card_paths():
    """Paths of all cards, as ``{name: {version: path}}``, versions ascending."""
    found = {}
    for folder in weight_folders():
        for path in folder.glob(f"*/*/{CARD}"):
            version = path.parent.name
            if VERSION.fullmatch(version):
                found.setdefault(path.parent.parent.name, {}).setdefault(int(version), path)
    ordered = sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    return {name: dict(sorted(found[name].items())) for name in ordered}


def is_folder(name):
    """Whether a pretrained name is the path of a weight folder."""
    return isinstance(name, os.PathLike) or (isinstance(name, str) and (os.sep in name or "/" in name))


def find_card(name):
    """The card of a pretrained name.

    Args:
        name: ``"resnet20-cifar10"`` for the newest version, ``"resnet20-cifar10@1"`` for one; the path of a
            folder with a card and its weight file, as ``"converted/resnet18-imagenet/1"``, or of a folder that holds
            one such, as the ``--out`` of ``keras-resv2 finetune``; or
            ``"hf://user/name"`` for a repository of the Hugging Face Hub.

    Returns:
        `keras_resv2.pretrained.card.Card`.

    Raises:
        ValueError: unknown name (with the nearest ones), unknown version (with those there are), or
            a damaged card.
        FileNotFoundError: a path holds no card.
    """
    if isinstance(name, str) and name.startswith("hf://"):
        from keras_resv2.hub import pull  # on top of this module

        return pull(name)
    if str(name).endswith((".keras", ".h5")):
        raise ValueError(
            f"{name} is a file of weights or a model, and a weight folder, <name>/<version> with {CARD}, is wanted "
            "(train.finetune writes one); keras.models.load_model opens a .keras file."
        )
    if is_folder(name):
        return check_place(read_card(_card_in(pathlib.Path(name))))
    base, version = split_name(name)
    paths = card_paths()
    if base not in paths:
        folders = " or ".join(map(str, weight_folders()))
        offer = f"nearest: {nearest(base, paths)}" if paths else f"there are none in {folders}"
        raise ValueError(f"there are no pretrained weights {base!r}; {offer}.")
    versions = paths[base]
    if version is None:
        version = max(versions)
    if version not in versions:
        raise ValueError(f"{base} has no version {version}; there is {', '.join(f'{base}@{v}' for v in versions)}.")
    return check_place(read_card(versions[version]))


def _card_in(folder):
    """Path of the card of a weight folder, ``<name>/<version>``; of ``<name>`` or what holds it the newest version."""
    path = folder / CARD
    if VERSION.fullmatch(folder.resolve().name) and path.is_file():
        return path
    for pattern in (f"*/{CARD}", f"*/*/{CARD}"):
        found = [card for card in sorted(folder.glob(pattern)) if VERSION.fullmatch(card.parent.name)]
        names = sorted({card.parent.parent.name for card in found})
        if len(names) > 1:
            raise ValueError(f"{folder} holds several weight folders, {some(names)}: name one of them.")
        if found:
            return max(found, key=lambda card: int(card.parent.name))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: a weight folder is <name>/<version> and holds {CARD}; a folder that holds one, as "
            "the --out of finetune, stands for it."
        )
    return path


def weight_path(card):
    """Path of the verified weight file of a card, downloaded into the cache, and converted, where necessary.

    Args:
        card: `keras_resv2.pretrained.card.Card`.

    Returns:
        `pathlib.Path` of a file whose SHA-256 is the card's.

    Raises:
        FileNotFoundError: the file is not there and the card has no URL.
        ValueError: the file is damaged.
        OSError: it cannot be downloaded or the cache cannot be written.
    """
    name = check_file_name(card.file, "file")  # of a card that was made in Python too
    beside = card.folder / name
    if beside.exists():
        check_sum(beside, card)
        return beside
    if card.sha256 is None:
        if "hub" in card.origin:  # the layers above: only others' files need them
            from keras_resv2.hub.timm import fetch
        else:
            from keras_resv2.convert.third_party import fetch

        return weight_path(fetch(card))
    cached = home() / "weights" / check_file_name(card.name, "name") / str(card.version) / name
    if not card.url and not cached.exists():
        raise FileNotFoundError(
            f"the weight file of {card.full_name}, {beside}, is missing and its card has no URL: "
            "install the package again."
        )
    if not cached.exists():
        download.fetch(card.url, cached, card.size, card.sha256)
    check_sum(cached, card)
    return cached


def check_sum(path, card):
    """Raises ValueError unless the file's size and SHA-256 are the card's."""
    size = path.stat().st_size
    if size != card.size:
        raise ValueError(f"weight file {path} is damaged: {size} bytes, {card.size} expected. {_mend(path)}")
    if sha256(path) != card.sha256:
        raise ValueError(f"weight file {path} is damaged: its SHA-256 is not that of {card.full_name}. {_mend(path)}")


def _mend(path):
    return "Delete it to download it again." if home() in path.parents else "Install the package again."
