"""Downloads a file once: resumed if cut, verified before it gets its name, locked against others."""

import contextlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request

import filelock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from keras_resv2.files import DiskFullError, atomic_write, check_regular
from keras_resv2.storage.checksum import agrees

BLOCK = 1 << 18
ATTEMPTS = 3
DIGITS = re.compile("[0-9]{1,15}")
TIMEOUT_SECONDS = 30


class Cut(Exception):
    """The connection ended early, or the server asks to come again: worth another attempt."""


class NotWritable(PermissionError):
    """The cache cannot be written."""


@contextlib.contextmanager
def file_lock(path):
    """Keeps other processes from making the same file, whose folder is made if need be.

    Raises:
        NotWritable: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            yield
    except (ConnectionError, ValueError, NotWritable, DiskFullError):
        raise
    except OSError as error:
        raise NotWritable(
            f"cannot write {path.parent}: {error.strerror or error}. Set KERAS_RESV2_HOME to another directory."
        ) from None


def fetch(url, path, size, checksum, limit=None):
    """Downloads `url` to `path`. Does nothing if another process has done it meanwhile.

    Bytes go to ``<path>.part`` and are kept when the connection is cut, so the next attempt, in this
    call or a later one, asks only for the rest. The file gets its name when size and sum are right.

    Args:
        url: http, https or file.
        path: `pathlib.Path` to write.
        size: bytes expected; None if only the server knows.
        limit: most bytes that are taken where the size is not known; None for any number.
        checksum: SHA-256 or MD5 expected, in hex.

    Raises:
        PermissionError: the place cannot be written.
        DiskFullError: there is no room for the file.
        ConnectionError: the server says no, cannot be reached, or cut the connection every time.
        ValueError: what the server has is not the file expected; nothing of it is kept.
    """
    with file_lock(path):
        if path.exists():
            return
        with atomic_write(path, keep=(ConnectionError, KeyboardInterrupt)) as part:
            _download(url, part, size, checksum, limit)


def _download(url, part, size, checksum, limit):
    """Fills `part` until it is the whole, verified file."""
    cuts = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        whole = have > 0 and agrees(part, checksum) if size is None else have >= size
        if not whole:
            try:
                _receive(url, part, have, size, limit)
            except Cut as cut:
                cuts += 1
                if cuts < ATTEMPTS:
                    time.sleep(0.2 * cuts)
                    continue
                have = part.stat().st_size if part.exists() else 0
                raise ConnectionError(
                    f"{url}: {cut} after {have} of {size or '?'} bytes. Call again to go on."
                ) from None
        if agrees(part, checksum):
            return
        part.unlink()
        if have == 0:  # all of it came just now: the server has another file
            raise ValueError(f"{url} is not the file expected: its check sum is another.")


def _receive(url, part, have, size, limit):
    """Appends what the server sends from byte `have` on, until there are `size` bytes, or all it has.

    Raises:
        Cut: they did not all come.
        ConnectionError: the server says no.
        ValueError: the server's file is of another size.
    """
    try:
        with _open(url, have) as response:
            resumes = have > 0 and response.status == 206
            start = have if resumes else 0
            length = response.headers.get("Content-Length") or ""
            there = start + int(length) if DIGITS.fullmatch(length) else None
            if there is not None and size not in (None, there):
                raise ValueError(f"{url} is not the file expected: {there} bytes, {size} expected.")
            size = there if size is None else size
            limit = size if size is not None and limit is None else limit
            if size is not None and size > limit:
                raise ValueError(f"{url} is not the file expected: {size} bytes, at most {limit} expected.")
            _write(response, part, start, size, url, limit)
    except ValueError:
        part.unlink(missing_ok=True)
        raise
    except http.client.HTTPException as error:
        raise Cut(f"the connection was cut ({type(error).__name__})") from None


def _open(url, have):
    scheme, _, place, *_ = urllib.parse.urlsplit(url)
    if scheme not in ("http", "https", "file"):
        raise ValueError(f"{url} is not a file that can be downloaded: its address must start with https://.")
    if scheme == "file":
        check_regular(urllib.request.url2pathname(place))  # a pipe has no end
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Cut(f"HTTP {error.code} {error.reason}") from None
        if error.code == 416:
            raise ValueError(f"{url} is not the file expected: it has no more than {have} bytes.") from None
        raise ConnectionError(f"{url}: HTTP {error.code} {error.reason}.") from None
    except http.client.InvalidURL as error:
        raise ValueError(f"{url} is not a valid URL: {error}.") from None
    except OSError as error:  # refused, unknown host, reset, timed out
        raise Cut(f"no connection ({getattr(error, 'reason', None) or error})") from None


def _write(response, part, start, size, url, limit):
    with open(part, "r+b" if start else "wb") as file, _progress_bar() as bar:
        file.seek(start)
        task = bar.add_task(part.name.removesuffix(".part"), total=size, completed=start)
        while size is None or file.tell() < size:
            try:
                block = response.read(BLOCK)
            except OSError as error:  # reset, timed out
                raise Cut(f"the connection was cut ({error})") from None
            if not block and size is None:
                return
            if not block:
                raise Cut("the connection was cut")
            file.write(block if size is None else block[: size - file.tell()])
            if limit is not None and file.tell() > limit:
                raise ValueError(f"{url} is not the file expected: more than {limit} bytes.")
            bar.update(task, completed=file.tell())


def _progress_bar():
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
