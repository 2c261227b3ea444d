"""The Hub's own client, with its login, its cache and its offline mode: files of a repository, errors in one line."""

import contextlib
import functools
import glob
import pathlib
import re

PREFIX = "hf://"
REFERENCE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(\S+))?")
NAME = re.compile(r"[\w.-]+/[\w.-]+")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


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
            raise ValueError(f"{reference}: {file.rfilename} has {file.size:,} bytes, {expected} expected.")
    with clear_errors(reference):
        return pathlib.Path(hub.snapshot_download(repository, **download))


def hub_client():
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise ImportError("the Hugging Face Hub needs its client: pip install huggingface_hub.") from None
    return huggingface_hub


@contextlib.contextmanager
def clear_errors(place):
    """What the client raises, as one line that says what to do."""
    errors = hub_client().errors
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
