"""`push`: uploads weights to a repository on the Hugging Face Hub."""

import os
import pathlib
import tempfile

import keras

from keras_resv2.hub.client import LOGIN, NAME, PREFIX, REFERENCE, clear_errors, hub_client
from keras_resv2.hub.readme import readme
from keras_resv2.models.batch_norm import to_stock_layers
from keras_resv2.pretrained import pretrained_card, weight_path
from keras_resv2.resnet import build_named
from keras_resv2.storage.card import folder_of, read_card
from keras_resv2.storage.local import CARD

KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")  # names used by `keras.saving`
EXTRAS = ("history.csv", "curve.png")  # optional files next to a card and its weights
OPTIONAL = (*EXTRAS, "weights.h5")  # which a later push may not have


def push(repository: str, source: str | os.PathLike, private: bool = False, base_model: str | None = None) -> str:
    """Uploads weights to the Hub in one commit: the weight file, its card, its history and a README.

    The commit also contains the network as saved by Keras, with Keras layers only, so that
    ``keras.saving.load_model("hf://user/name")`` opens it without this package. History, curve and
    ``weights.h5`` of an earlier push are deleted if they are not replaced; its commit keeps them.

    Args:
        repository: ``user/name``; created if it does not exist.
        source: a pretrained name, such as "resnet20-cifar10", or a folder with a card.json and its weight file.
        private: whether a new repository is private.
        base_model: ``user/name`` on the Hub of the network that this one was fine-tuned from; None if it is not on the
            Hub, or if the card names it (``initial_weights``).

    Returns:
        Name for `keras_resv2.from_pretrained` that refers to exactly these files, ``hf://user/name@<commit>``.

    Raises:
        FileNotFoundError: if a folder does not contain a card.
        ValueError: if the source does not exist, its card is incomplete or its weight file is damaged; or `repository`
            or `base_model` is not of the form ``user/name``.
        PermissionError: if you are not logged in, or do not have write access.
        ConnectionError: if the Hub cannot be reached.
        ImportError: if huggingface_hub is not installed.

    Example:

    >>> push("me/resnet20-cifar10", "resnet20-cifar10")  # doctest: +SKIP
    'hf://me/resnet20-cifar10@6f1d3c0b...'
    """
    hub = hub_client()
    for what, name in (("repository", repository), ("base_model", base_model)):
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r} must be of the form user/name.")
    card = pretrained_card(source)
    weights = weight_path(card)
    if card.sha256 is None:  # just converted: the card with size and checksum is next to the weights
        card = read_card(weights.parent / CARD)
    if card.file in KERAS_FILES:
        raise ValueError(f"{card.file} is also the name of a Keras file in the repository: rename the weight file.")
    if hub.get_token() is None:
        raise PermissionError(f"you are not logged in to the Hub: {LOGIN}.")
    started_from = REFERENCE.fullmatch(card.initial_weights or "")
    if base_model is None and started_from:
        base_model = started_from[1]
    files = {
        card.file: weights,
        CARD: folder_of(card) / CARD,
        **{name: path for name in EXTRAS if (path := folder_of(card) / name).exists()},
    }
    with tempfile.TemporaryDirectory() as folder:
        files |= _keras_files(card, weights, pathlib.Path(folder))
        additions = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        additions.append(hub.CommitOperationAdd("README.md", readme(card, repository, base_model).encode()))
        with clear_errors(repository):
            api = hub.HfApi(library_name="keras_resv2")
            api.create_repo(repository, private=private, exist_ok=True)
            present = api.list_repo_files(repository)
            earlier = OPTIONAL if CARD in present else ()  # of this package
            additions += [hub.CommitOperationDelete(name) for name in earlier if name in present and name not in files]
            commit = api.create_commit(repository, additions, commit_message=f"{card.full_name} of keras-resv2")
    return f"{PREFIX}{repository}@{commit.oid}"


def _keras_files(card, weights, folder):
    """Saves the network with Keras into a folder; returns a dictionary from names in the repository to paths."""
    data_format = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")  # which every backend can run on a CPU
    try:
        network = dict(classes=len(card.class_names), input_shape=tuple(card.image_shape), dtype="float32")
        model = to_stock_layers(build_named(card.architecture, **card.arguments, weights=str(weights), **network))
        keras.saving.save_model(model, folder / "keras", zipped=False)
    finally:
        keras.config.set_image_data_format(data_format)
    return {name: folder / "keras" / name for name in KERAS_FILES}
