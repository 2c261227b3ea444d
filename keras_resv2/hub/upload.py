"""`push`: weights into a repository of the Hugging Face Hub."""

import pathlib
import tempfile

import keras

from keras_resv2.hub.client import LOGIN, NAME, PREFIX, REFERENCE, clear_errors, hub_client
from keras_resv2.hub.readme import readme
from keras_resv2.models.batch_norm import to_stock_layers
from keras_resv2.pretrained import find_card, weight_path
from keras_resv2.resnet import build_named
from keras_resv2.storage.card import read_card
from keras_resv2.storage.local import CARD

KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")  # as `keras.saving` names them
EXTRAS = ("history.csv", "curve.png")  # beside a card and its weights, where there are such


def push(repository: str, source: str, private: bool = False, base_model: str | None = None) -> str:
    """Uploads weights to the Hub: one commit with the weight file, its card, its history and a README.

    Beside them stands the same network as Keras saves it, in layers of Keras alone, so that
    ``keras.saving.load_model("hf://user/name")`` opens it without this package.

    Args:
        repository: ``user/name``; made where there is none.
        source: a pretrained name, as "resnet20-cifar10", or a folder with a card.json and its weight file.
        private: whether a new repository is visible to its owner alone.
        base_model: ``user/name`` on the Hub of the network that this one was fine-tuned from; None where that is
            not on the Hub, or where the card names it (``initial_weights``).

    Returns:
        Text that `keras_resv2.from_pretrained` takes for exactly these files, ``hf://user/name@<commit>``.

    Raises:
        ValueError: there is no such source, its card is not complete or its weight file is damaged; or
            `repository` or `base_model` is not of the form ``user/name``.
        PermissionError: nobody is logged in, or may not write there.
        ConnectionError: the Hub cannot be reached.
        ImportError: huggingface_hub is not installed.

    Example:

    >>> push("me/resnet20-cifar10", "resnet20-cifar10")  # doctest: +SKIP
    'hf://me/resnet20-cifar10@6f1d3c0b...'
    """
    hub = hub_client()
    for what, name in (("repository", repository), ("base_model", base_model)):
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r} must be of the form user/name.")
    card = _card_of(source)
    weights = weight_path(card)
    if card.sha256 is None:  # converted just now: the card with size and sum lies beside the weights
        card = read_card(weights.parent / CARD)
    if card.file in KERAS_FILES:
        raise ValueError(f"{card.file} is the name of a file of Keras beside it: give the weight file another one.")
    if hub.get_token() is None:
        raise PermissionError(f"nobody is logged in to the Hub: {LOGIN}.")
    started_from = REFERENCE.fullmatch(card.initial_weights or "")
    if base_model is None and started_from:
        base_model = started_from[1]
    files = {
        card.file: weights,
        CARD: card.folder / CARD,
        **{name: card.folder / name for name in EXTRAS if (card.folder / name).exists()},
    }
    with tempfile.TemporaryDirectory() as folder:
        files |= _keras_files(card, weights, pathlib.Path(folder))
        additions = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        additions.append(hub.CommitOperationAdd("README.md", readme(card, repository, base_model).encode()))
        with clear_errors(repository):
            api = hub.HfApi(library_name="keras_resv2")
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.create_commit(repository, additions, commit_message=f"{card.full_name} of keras-resv2")
    return f"{PREFIX}{repository}@{commit.oid}"


def _keras_files(card, weights, folder):
    """Files of the network as Keras saves it into a folder, from their names in a repository to their paths."""
    data_format = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")  # which every backend can run on a processor
    try:
        network = dict(classes=len(card.class_names), input_shape=tuple(card.image_shape), dtype="float32")
        model = to_stock_layers(build_named(card.architecture, **card.arguments, weights=str(weights), **network))
        keras.saving.save_model(model, folder / "keras", zipped=False)
    finally:
        keras.config.set_image_data_format(data_format)
    return {name: folder / "keras" / name for name in KERAS_FILES}


def _card_of(source):
    folder = pathlib.Path(source)
    if folder.is_dir():
        if not (folder / CARD).is_file():
            raise ValueError(f"folder {folder} holds no {CARD}: name one that does, as weights/<name>/<version>.")
        return read_card(folder / CARD)
    return find_card(str(source))
