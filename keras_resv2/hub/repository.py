"""`push` and `pull`, by the Hub's own client: its login, its cache, its offline mode."""

import contextlib
import functools
import glob
import pathlib
import re
import tempfile

from keras_resv2.pretrained import store
from keras_resv2.pretrained.card import LARGEST, read_card

PREFIX = "hf://"
REFERENCE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(\S+))?")
NAME = re.compile(r"[\w.-]+/[\w.-]+")
KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")  # as `keras.saving` names them
EXTRAS = ("history.csv", "curve.png")  # beside a card and its weights, where there are such
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def push(repository, source, private=False, base_model=None):
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
    hub = _client()
    for what, name in (("repository", repository), ("base_model", base_model)):
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r} must be of the form user/name.")
    card = _card_of(source)
    weights = store.weight_path(card)
    if card.sha256 is None:  # converted just now: the card with size and sum lies beside the weights
        card = read_card(weights.parent / store.CARD)
    if card.file in KERAS_FILES:
        raise ValueError(f"{card.file} is the name of a file of Keras beside it: give the weight file another one.")
    if hub.get_token() is None:
        raise PermissionError(f"nobody is logged in to the Hub: {LOGIN}.")
    started_from = REFERENCE.fullmatch(card.initial_weights or "")
    if base_model is None and started_from:
        base_model = started_from[1]
    from keras_resv2.hub.readme import readme

    files = {
        card.file: weights,
        store.CARD: card.folder / store.CARD,
        **{name: card.folder / name for name in EXTRAS if (card.folder / name).exists()},
    }
    with tempfile.TemporaryDirectory() as folder:
        files |= _keras_files(card, weights, pathlib.Path(folder))
        additions = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        additions.append(hub.CommitOperationAdd("README.md", readme(card, repository, base_model).encode()))
        with _clear_errors(repository):
            api = hub.HfApi(library_name="keras_resv2")
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.create_commit(repository, additions, commit_message=f"{card.full_name} of keras-resv2")
    return f"{PREFIX}{repository}@{commit.oid}"


def _keras_files(card, weights, folder):
    """Files of the network as Keras saves it into a folder, from their names in a repository to their paths."""
    import keras

    from keras_resv2.architectures import build
    from keras_resv2.batch_norm import to_stock_layers

    data_format = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")  # which every backend can run on a processor
    try:
        network = dict(classes=len(card.class_names), input_shape=tuple(card.image_shape), dtype="float32")
        model = to_stock_layers(build(card.architecture, **card.arguments, weights=str(weights), **network))
        keras.saving.save_model(model, folder / "keras", zipped=False)
    finally:
        keras.config.set_image_data_format(data_format)
    return {name: folder / "keras" / name for name in KERAS_FILES}


def pull(reference):
    """Fetches the card and the weight file of a repository into the Hub client's cache, where they are not yet.

    Args:
        reference: ``hf://user/name``, or with ``@`` and a branch, tag or commit.

    Returns:
        `keras_resv2.pretrained.Card`; its `folder` holds the files, whose SHA-256 is the card's. Of a repository of
        timm's (``hf://timm/resnet18.a1_in1k``) that is a folder of the cache, with the converted weights.

    Raises:
        ValueError: the reference is none, there is no such repository or revision, it holds neither a card nor a
            network of timm's that this package builds, or the weight file is damaged.
        ConnectionError: the Hub cannot be reached, or must not (HF_HUB_OFFLINE=1), and the cache has no copy.
        ImportError: huggingface_hub is not installed.

    Example:

    >>> pull("hf://me/resnet20-cifar10").test_error  # doctest: +SKIP
    8.48
    """
    found = REFERENCE.fullmatch(reference)
    if not found:
        raise ValueError(f"{reference!r} must be of the form hf://user/name or hf://user/name@revision.")
    repository, revision = found.groups()
    folder, fetch = fetch_files(reference, repository, revision, {store.CARD: (0, LARGEST)})
    if not (folder / store.CARD).is_file():
        from keras_resv2.hub import timm

        return timm.convert(reference, repository, folder.name, fetch)
    try:
        card = read_card(folder / store.CARD)
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from None
    if not (folder / card.file).is_file():  # of the card's commit, should the branch move meanwhile
        fetch({store.CARD: (0, LARGEST), card.file: (card.size, card.size)})
    path = folder / card.file
    if not path.is_file():
        raise ValueError(f"{reference} holds no {card.file}, which its card names.")
    try:
        store.check_sum(path, card)
    except ValueError:
        raise ValueError(
            f"{reference}: {card.file} is damaged, its SHA-256 is not the card's. Delete {path.resolve()} to fetch it "
            "again; if that does not help, what the Hub has is damaged."
        ) from None
    return card


def fetch_files(reference, repository, revision, wanted):
    """Files of a repository, and a function that fetches others of the same commit.

    Args:
        reference: what the user wrote, for messages.
        repository, revision: ``user/name``; a branch, tag or commit, None for the main branch.
        wanted: dictionary from a file's name to the least and most bytes that it may have.

    Returns:
        ``(folder, fetch)``: the folder of the commit in the cache, called by its id, with those files that the
        repository has; and a function from such a dictionary to the folder.

    Raises:
        ValueError, PermissionError, ConnectionError: as `pull`.
    """
    folder = _snapshot(reference, repository, revision, wanted)
    return folder, functools.partial(_snapshot, reference, repository, folder.name)


def _card_of(source):
    folder = pathlib.Path(source)
    if folder.is_dir():
        if not (folder / store.CARD).is_file():
            raise ValueError(f"folder {folder} holds no {store.CARD}: name one that does, as weights/<name>/<version>.")
        return read_card(folder / store.CARD)
    return store.find_card(str(source))


def _snapshot(reference, repository, revision, wanted):
    """The folder of a commit in the cache, with these files of it where the repository has them.

    Args:
        reference: what the user wrote, for messages.
        repository, revision: as the Hub's client takes them.
        wanted: from the name of a file to the least and most bytes that it may have. The sizes that the Hub lists
            are checked before anything is downloaded.

    Raises:
        ValueError, PermissionError, ConnectionError: as `pull`. What the Hub refuses, or cannot be asked for, the
            cache may have all the same.
    """
    hub = _client()
    download = dict(revision=revision, allow_patterns=[glob.escape(name) for name in wanted])
    try:
        with _clear_errors(reference):
            listed = hub.HfApi(library_name="keras_resv2").model_info(
                repository, revision=revision, files_metadata=True
            )
    except (ValueError, OSError) as refusal:
        try:
            return pathlib.Path(hub.snapshot_download(repository, local_files_only=True, **download))
        except hub.errors.LocalEntryNotFoundError:
            if isinstance(refusal, ConnectionError):
                raise ConnectionError(f"{str(refusal).rstrip('.')}, and the cache has no copy.") from None
            raise refusal from None
    for file in listed.siblings:
        least, most = wanted.get(file.rfilename, (0, None))
        if most is not None and (file.size is None or not least <= file.size <= most):
            expected = f"{most:,}" if least == most else f"at most {most:,}"
            raise ValueError(f"{reference}: {file.rfilename} has {file.size:,} bytes, {expected} expected.")
    with _clear_errors(reference):
        return pathlib.Path(hub.snapshot_download(repository, **download))


def _client():
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise ImportError("the Hugging Face Hub needs its client: pip install huggingface_hub.") from None
    return huggingface_hub


@contextlib.contextmanager
def _clear_errors(place):
    """What the client raises, as one line that says what to do."""
    errors = _client().errors
    try:
        yield
    except errors.GatedRepoError:
        raise PermissionError(f"{place} asks its readers to accept conditions: open its page on the Hub.") from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{place}: the repository has no such revision.") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(f"there is no {place} on the Hub, or it is private and you are not logged in.") from None
    except errors.LocalEntryNotFoundError:  # the connection was there a moment ago
        raise ConnectionError(f"{place}: the Hub cannot be reached.") from None
    except errors.OfflineModeIsEnabled:
        raise ConnectionError(f"{place}: the Hub cannot be reached, HF_HUB_OFFLINE is set.") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"the Hub does not let you write {place}: {LOGIN}.") from None
        raise ConnectionError(f"{place}: the Hub answers HTTP {status}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):  # by versions of the client
            raise ConnectionError(f"{place}: the Hub cannot be reached ({error}).") from None
        if type(error) is RuntimeError and error.__cause__ is not None:  # of a large file on its way up
            raise ConnectionError(f"{place}: {error} ({error.__cause__})") from None
        raise
