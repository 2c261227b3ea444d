"""`push` and `pull`, by the Hub's own client: its login, its cache, its offline mode."""

import contextlib
import glob
import pathlib
import re

from keras_resv2.pretrained import store
from keras_resv2.pretrained.card import read_card

PREFIX = "hf://"
REFERENCE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(\S+))?")
EXTRAS = ("history.csv", "curve.png")  # beside a card and its weights, where there are such
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def push(repository, source, private=False):
    """Uploads weights to the Hub: one commit with the weight file, its card, its history and a README.

    Args:
        repository: ``user/name``; made where there is none.
        source: a pretrained name, as "resnet20-cifar10", or a folder with a card.json and its weight file.
        private: whether a new repository is visible to its owner alone.

    Returns:
        Text that `keras_resv2.from_pretrained` takes for exactly these files, ``hf://user/name@<commit>``.

    Raises:
        ValueError: there is no such source, its card is not complete or its weight file is damaged; or the
            repository's name is none.
        PermissionError: nobody is logged in, or may not write there.
        ConnectionError: the Hub cannot be reached.
        ImportError: huggingface_hub is not installed.

    Example:

    >>> push("me/resnet20-cifar10", "resnet20-cifar10")  # doctest: +SKIP
    'hf://me/resnet20-cifar10@6f1d3c0b...'
    """
    hub = _client()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository {repository!r} must be of the form user/name.")
    card = _card_of(source)
    weights = store.weight_path(card)
    if card.sha256 is None:  # converted just now: the card with size and sum lies beside the weights
        card = read_card(weights.parent / store.CARD)
    if hub.get_token() is None:
        raise PermissionError(f"nobody is logged in to the Hub: {LOGIN}.")
    from keras_resv2.hub.readme import readme

    files = {
        card.file: weights,
        store.CARD: card.folder / store.CARD,
        **{name: card.folder / name for name in EXTRAS if (card.folder / name).exists()},
    }
    additions = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    additions.append(hub.CommitOperationAdd("README.md", readme(card, repository).encode()))
    with _clear_errors(repository):
        api = hub.HfApi(library_name="keras_resv2")
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(repository, additions, commit_message=f"{card.full_name} of keras-resv2")
    return f"{PREFIX}{repository}@{commit.oid}"


def pull(reference):
    """Fetches the card and the weight file of a repository into the Hub client's cache, where they are not yet.

    Args:
        reference: ``hf://user/name``, or with ``@`` and a branch, tag or commit.

    Returns:
        `keras_resv2.pretrained.Card`; its `folder` holds the files, whose SHA-256 is the card's.

    Raises:
        ValueError: the reference is none, there is no such repository or revision, it holds no card, or the
            weight file is damaged.
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
    folder = _snapshot(reference, repository, revision, [store.CARD])
    if not (folder / store.CARD).is_file():
        raise ValueError(f"{reference} holds no {store.CARD}: these are no weights of keras-resv2.")
    try:
        card = read_card(folder / store.CARD)
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from None
    commit = folder.name  # the card's own, should the branch move meanwhile
    _snapshot(reference, repository, commit, [store.CARD, glob.escape(card.file)])
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


def _card_of(source):
    folder = pathlib.Path(source)
    if folder.is_dir():
        if not (folder / store.CARD).is_file():
            raise ValueError(f"folder {folder} holds no {store.CARD}: name one that does, as weights/<name>/<version>.")
        return read_card(folder / store.CARD)
    return store.find_card(str(source))


def _snapshot(reference, repository, revision, names):
    """The folder of a commit in the cache, with these files of it."""
    hub = _client()
    with _clear_errors(reference):
        return pathlib.Path(hub.snapshot_download(repository, revision=revision, allow_patterns=names))


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
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            raise ConnectionError(f"{place} is not in the cache, and HF_HUB_OFFLINE keeps from fetching it.") from None
        raise ConnectionError(f"{place} is not in the cache, and the Hub cannot be reached.") from None
    except errors.OfflineModeIsEnabled:
        raise ConnectionError(f"HF_HUB_OFFLINE keeps from reaching the Hub for {place}.") from None
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
