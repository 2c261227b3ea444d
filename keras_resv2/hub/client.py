"""Downloads files of a repository with the Hub's own client (login, cache, offline mode), with one-line errors."""

import contextlib
import functools
import glob
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Sizes = Mapping[str, tuple[int | None, int | None]]  # bounds of a file's size in bytes; None if unknown

PREFIX = "hf://"
REFERENCE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(\S+))?")
NAME = re.compile(r"[\w.-]+/[\w.-]+")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token with write access"


def fetch_files(
    reference: str, repository: str, revision: str | None, wanted: Sizes
) -> tuple[pathlib.Path, Callable[[Sizes], pathlib.Path]]:
    """Downloads files of a repository, and returns a function that downloads others of the same commit.

    Args:
        reference: the user's input, for messages.
        repository, revision: ``user/name``; a branch, tag or commit, None for the main branch.
        wanted: dictionary from a file's name to its minimum and maximum size in bytes.

    Returns:
        ``(folder, fetch)``: the folder of the commit in the cache, named after its id, with the files that the
        repository has; and a function from such a dictionary to the folder.

    Raises:
        ValueError, PermissionError, ConnectionError: see `pull`.
    """
    folder = _snapshot(reference, repository, revision, wanted)
    return folder, functools.partial(_snapshot, reference, repository, folder.name)


def _snapshot(reference, repository, revision, wanted):
    """Returns the folder of a commit in the cache, with those of the files that the repository has.

    Args:
        reference: the user's input, for messages.
        repository, revision: as in the Hub's client.
        wanted: dictionary from the name of a file to its minimum and maximum size in bytes. The sizes that the Hub
            lists are checked before anything is downloaded.

    Raises:
        ValueError, PermissionError, ConnectionError: see `pull`. If the Hub refuses or cannot be reached, a copy in the
            cache is used.
    """
    hub = hub_client()
    download = dict(revision=revision, allow_patterns=[glob.escape(name) for name in wanted])
    try:
        with clear_errors(reference):
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
            found = "an unknown number of" if file.size is None else f"{file.size:,}"
            raise ValueError(f"{reference}: {file.rfilename} has {found} bytes, {expected} expected.")
    with clear_errors(reference):
        return pathlib.Path(hub.snapshot_download(repository, **download))


def hub_client() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise ImportError("the Hugging Face Hub requires huggingface_hub: pip install huggingface_hub.") from None
    return huggingface_hub


@contextlib.contextmanager
def clear_errors(place: str) -> Iterator[None]:
    """Context manager that converts the client's exceptions to one line that says what to do."""
    errors = hub_client().errors
    try:
        yield
    except errors.GatedRepoError:
        raise PermissionError(f"{place} requires accepting its conditions: open its page on the Hub.") from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{place}: the repository does not have this revision.") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(f"there is no {place} on the Hub, or it is private and you are not logged in.") from None
    except errors.LocalEntryNotFoundError:  # the connection was lost in the meantime
        raise ConnectionError(f"{place}: the Hub cannot be reached.") from None
    except errors.OfflineModeIsEnabled:
        raise ConnectionError(f"{place}: the Hub cannot be reached because HF_HUB_OFFLINE is set.") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"the Hub denies access to {place}: {LOGIN}.") from None
        raise ConnectionError(f"{place}: the Hub returned HTTP {status}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        # The library behind the client depends on its version.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):
            raise ConnectionError(f"{place}: the Hub cannot be reached ({error}).") from None
        if type(error) is RuntimeError and error.__cause__ is not None:  # failed upload of a large file
            raise ConnectionError(f"{place}: {error} ({error.__cause__})") from None
        raise
