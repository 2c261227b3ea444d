"""Downloads files: resumable, verified before they are renamed, and locked against other processes."""

import contextlib
import http.client
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import filelock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from keras_resv2.files import DiskFullError, atomic_write, check_regular, read_zip_member
from keras_resv2.storage.checksum import agrees

BLOCK = 1 << 18
ATTEMPTS = 3
DIGITS = re.compile("[0-9]{1,15}")
TIMEOUT_SECONDS = 30


class Cut(Exception):
    """Raised when the connection ended early or the server asks to retry: worth another attempt."""


class NotWritable(PermissionError):
    """Raised when the cache is not writable."""


@contextlib.contextmanager
def file_lock(path: pathlib.Path) -> Iterator[None]:
    """Prevents other processes from writing the same file, whose folder is created if necessary.

    Raises:
        NotWritable: if the folder is not writable.
    """
    lock = filelock.FileLock(f"{path}.lock")
    with writes_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writes_cache(path: pathlib.Path) -> Iterator[None]:
    """Explains the errors of writing a file of the cache.

    Raises:
        NotWritable: in place of an OSError, unless it is a ConnectionError or the disk is full.
    """
    try:
        yield
    except (ConnectionError, DiskFullError):
        raise
    except OSError as error:
        raise NotWritable(
            f"cannot write {path.parent}: {error.strerror or error}. Set KERAS_RESV2_HOME to another directory."
        ) from None


def fetch(url: str, path: pathlib.Path, size: int | None, checksum: str, limit: int | None = None) -> None:
    """Downloads `url` to `path`. Does nothing if another process has done so in the meantime.

    Data is written to ``<path>.part`` and kept if the connection is interrupted, so the next attempt, in this call or a
    later one, requests only the rest. The file is renamed once its size and checksum are verified.

    Args:
        url: URL with http, https or file.
        path: `pathlib.Path` to write.
        size: expected size in bytes; None if only the server knows it.
        limit: maximum number of bytes to accept if the size is unknown; None for no limit.
        checksum: expected SHA-256, SHA-1 or MD5, in hex.

    Raises:
        PermissionError: if the folder is not writable.
        DiskFullError: if the disk is full.
        ConnectionError: if the server refuses, cannot be reached, or interrupts the connection every time.
        ValueError: if the server has a different file; nothing of it is kept.
    """
    with file_lock(path), writes_cache(path):
        if path.exists():
            return
        with atomic_write(path, keep=(ConnectionError, KeyboardInterrupt)) as part:
            _download(url, part, size, checksum, limit)


def fetch_zipped(url: str, path: pathlib.Path, checksum: str, limit: int | None = None) -> None:
    """Downloads a zip archive that contains a file of the name of `path`, and extracts this one.

    Args:
        url, path, limit: see `fetch`.
        checksum: SHA-256, SHA-1 or MD5 of the extracted file, in hex.

    Raises:
        PermissionError, DiskFullError, ConnectionError: see `fetch`.
        ValueError: if the archive is damaged, or does not contain the expected file; nothing of it is kept.
    """
    with file_lock(path), writes_cache(path):
        if path.exists():
            return
        archive = path.with_name(f"{path.name}.zip")
        with atomic_write(archive, keep=(ConnectionError, KeyboardInterrupt)) as part:
            _download(url, part, None, None, limit)
        try:
            content = read_zip_member(archive, path.name)
        finally:
            archive.unlink()
        with atomic_write(path) as part:
            part.write_bytes(content)
            if not agrees(part, checksum):
                raise ValueError(f"{url} does not contain the expected file: the checksum of {path.name} differs.")


def _download(url, part, size, checksum, limit):
    """Downloads into `part` until it is the complete file, verified if there is a checksum."""
    cuts = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        whole = have > 0 and bool(checksum) and agrees(part, checksum) if size is None else have >= size
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
                    f"{url}: {cut} after {have} of {size or '?'} bytes. Call again to resume."
                ) from None
        if checksum is None or agrees(part, checksum):
            return
        part.unlink()
        if have == 0:  # downloaded from scratch: the server has a different file
            raise ValueError(f"{url} is not the expected file: its checksum differs.")


def _receive(url, part, have, size, limit):
    """Appends data from byte `have` on, until there are `size` bytes or the server has no more.

    Raises:
        Cut: if the transfer is incomplete.
        ConnectionError: if the server refuses.
        ValueError: if the server's file has a different size.
    """
    try:
        with _open(url, have) as response:
            resumes = have > 0 and response.status == 206
            start = have if resumes else 0
            length = response.headers.get("Content-Length") or ""
            there = start + int(length) if DIGITS.fullmatch(length) else None
            if there is not None and size not in (None, there):
                raise ValueError(f"{url} is not the expected file: {there} bytes, {size} expected.")
            size = there if size is None else size
            limit = size if size is not None and limit is None else limit
            if size is not None and size > limit:
                raise ValueError(f"{url} is not the expected file: {size} bytes, at most {limit} expected.")
            _write(response, part, start, size, url, limit)
    except ValueError:
        part.unlink(missing_ok=True)
        raise
    except http.client.HTTPException as error:
        raise Cut(f"the connection was interrupted ({type(error).__name__})") from None


def _open(url, have):
    scheme, _, place, *_ = urllib.parse.urlsplit(url)
    if scheme not in ("http", "https", "file"):
        raise ValueError(f"{url} cannot be downloaded: the URL must start with https://.")
    if scheme == "file":
        try:
            check_regular(urllib.request.url2pathname(place))  # a pipe may be endless
        except OSError as error:
            raise ConnectionError(f"{url}: {error}") from None
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Cut(f"HTTP {error.code} {error.reason}") from None
        if error.code == 416:
            raise ValueError(f"{url} is not the expected file: it has no more than {have} bytes.") from None
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
                raise Cut(f"the connection was interrupted ({error})") from None
            if not block and size is None:
                return
            if not block:
                raise Cut("the connection was interrupted")
            file.write(block if size is None else block[: size - file.tell()])
            if limit is not None and file.tell() > limit:
                raise ValueError(f"{url} is not the expected file: more than {limit} bytes.")
            bar.update(task, completed=file.tell())


def _progress_bar():
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
