"""Downloads a file once: resumed if cut, verified before it gets its name, locked against others."""

import hashlib
import os
import time
import urllib.error
import urllib.request

import filelock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

BLOCK = 1 << 18
ATTEMPTS = 3
TIMEOUT_SECONDS = 30


def fetch(url, path, size, sha256):
    """Downloads `url` to `path`. Does nothing if another process has done it meanwhile.

    Bytes go to ``<path>.part`` and are kept when the connection is cut, so the next attempt, in this
    call or a later one, asks only for the rest. The file gets its name when size and sum are right.

    Args:
        url: http, https or file.
        path: `pathlib.Path` to write.
        size: bytes expected.
        sha256: sum expected, in hex.

    Raises:
        OSError: the place cannot be written, the server says no, or the connection was cut in every
            attempt.
        ValueError: what was downloaded is not the file expected; it has been deleted.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(str(path) + ".lock"):
            if not path.exists():
                _download(url, part, size, sha256)
                os.replace(part, path)
    except (urllib.error.URLError, ConnectionError):
        raise
    except OSError as error:
        raise OSError(
            f"cannot write {path.parent}: {error.strerror or error}. Set KERAS_RESV2_HOME to another directory."
        ) from None


def _download(url, part, size, sha256):
    """Fills `part` until it is the whole, verified file."""
    for attempt in range(1, ATTEMPTS + 1):
        resumed_from = part.stat().st_size if part.exists() else 0
        if resumed_from >= size:
            part.unlink()
            resumed_from = 0
        problem = _receive(url, part, resumed_from, size)
        received = part.stat().st_size if part.exists() else 0
        if problem is None and received == size and _sum(part) == sha256:
            return
        if (problem is None and received >= size) or received > size:
            part.unlink()  # whole, but not what was expected
            if resumed_from == 0:
                raise ValueError(f"{url} is not the file expected: its SHA-256 or size differs from the card's.")
        if attempt < ATTEMPTS:
            time.sleep(0.2 * attempt)
    raise ConnectionError(
        f"{url}: the connection was cut after {received} of {size} bytes ({problem or 'end of data'}). "
        "Call again to go on from there."
    )


def _receive(url, part, offset, size):
    """Appends what the server sends from `offset` on; returns what went wrong, or None."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is not a beginning of what the server has
            part.unlink()
            return f"HTTP {error.code}"
        if error.code >= 500:
            return f"HTTP {error.code}"
        raise urllib.error.URLError(f"{url}: HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise urllib.error.URLError(f"{url}: {error.reason}") from None
    with response:
        resumes = offset and response.status == 206
        with open(part, "ab" if resumes else "wb") as file, _progress_bar() as bar:
            task = bar.add_task(part.name.removesuffix(".part"), total=size, completed=offset if resumes else 0)
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, ValueError) as error:  # reset, timed out, broken chunk
                    return str(error) or type(error).__name__
                if not block:
                    return None if file.tell() >= size else "end of data"
                file.write(block)
                bar.update(task, advance=len(block))


def _sum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _progress_bar():
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
