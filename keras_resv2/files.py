"""Atomic writing of files, and checks of untrusted files and file names."""

import contextlib
import csv
import errno
import glob
import json
import os
import pathlib
import re
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# What HDF5, TensorFlow, PyTorch and others report instead of an errno.
NO_ROOM_WORDS = ("no space left on device", "disk quota exceeded", "errno = 28", "os error 28", "os error 122")
LEFTOVER_SECONDS = 3600
LONGEST_NAME = 255
# Path separators, drive letters, wildcards, characters that Windows rejects, control characters.
NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]')

# The content of a file takes at most this many times its size in memory, plus an allowance for small files. Weights
# stored as float16 or int8, or compressed, take two to four times the size of their file.
EXPANSION, SPARE = 20, 16 << 20


class DiskFullError(OSError):
    """Raised when the disk is full; nothing of the file is left behind."""


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike, sync: bool = False, keep: type[BaseException] | tuple[type[BaseException], ...] = ()
) -> Iterator[pathlib.Path]:
    """Context manager that writes a file or a folder atomically: whole or not at all.

    Args:
        path: path of the file or folder; an existing one is replaced when the block ends. Its parent folder must exist.
        sync: whether to flush the file to disk before it is renamed, so that it survives a power failure.
        keep: exceptions after which the partial file is kept as ``<path>.part``, for the next call to resume from. Only
            one process at a time may write such a file; the caller holds a lock.

    Yields:
        `pathlib.Path` to write to, next to `path`. It is removed if the block raises anything but `keep`.

    Raises:
        DiskFullError: if the disk is full, however the writing library reports it.

    Example:

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "answer.txt")
    >>> with atomic_write(path) as partial:
    ...     _ = partial.write_text("42")
    >>> path.read_text(), [other.name for other in path.parent.iterdir()]
    ('42', ['answer.txt'])
    """
    path = pathlib.Path(path)
    _remove_leftovers(path)
    partial = path.with_name(f"{path.name}.part") if keep else _partial_path(path)
    try:
        yield partial
        if sync:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        _replace(partial, path)
    except BaseException as error:
        if not isinstance(error, keep):
            _remove(partial)
        if is_disk_full(error):
            raise DiskFullError(
                f"the disk of {path.parent} is full: {path.name} was not written. Free some space and try again."
            ) from None
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Returns whether an exception, or one that caused it, means that the disk or the quota is full.

    Example:

    >>> is_disk_full(OSError(errno.ENOSPC, "")), is_disk_full(RuntimeError("x: No space left on device"))
    (True, True)
    """
    seen = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if isinstance(error, Exception) and any(words in str(error).lower() for words in NO_ROOM_WORDS):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def _partial_path(path):
    # A unique name for each writer, so that two processes writing the same file do not share a partial file.
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


def _remove_leftovers(path):
    """Removes partial files left by writers of the same file that were killed long ago."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > LEFTOVER_SECONDS:
                _remove(left)


def _replace(partial, path):
    if path.is_dir() and not path.is_symlink():
        if not partial.is_dir():
            raise FileExistsError(f"{path} has become a folder in the meantime.")
        replaced = _partial_path(path)
        os.replace(path, replaced)
        os.replace(partial, path)
        _remove(replaced)
    else:
        os.replace(partial, path)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def check_file_name(name: Any, what: str) -> str:
    """Returns `name` if it is a plain file name, which cannot refer to another folder.

    Every file name from a card, a Hub repository, an archive or a URL must be checked before it is used in a path.

    Args:
        name: file name to check.
        what: description of the file, for the message.

    Raises:
        ValueError: if it is not text, is empty or too long, starts with a dot, or contains a path separator, a drive, a
            wildcard or a control character.

    Example:

    >>> check_file_name("weights.h5", "file")
    'weights.h5'
    >>> check_file_name("../weights.h5", "file")
    Traceback (most recent call last):
    ...
    ValueError: file '../weights.h5' must be the name of a file, not a path.
    """
    shown = repr(name)[:100]
    if not isinstance(name, str) or not name or name[0] == "." or NOT_IN_NAMES.search(name) or name[-1] in ". ":
        raise ValueError(f"{what} {shown} must be the name of a file, not a path.")
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{what} {shown}... is too long for the name of a file.")
    return name


def check_parent(path: str | os.PathLike) -> None:
    """Raises FileNotFoundError unless the parent folder of a file to write exists.

    Args:
        path: path of the file. The folder is not created, because a missing folder is usually a typo.
    """
    folder = pathlib.Path(os.path.abspath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {folder} does not exist. Create it first.")


def create_folder(path: str | os.PathLike) -> None:
    """Creates a folder and those above it, and checks that files can be written into it.

    Raises:
        NotADirectoryError: if it, or one above it, is a file.
        PermissionError: if it is not writable.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{path} is not a folder, or lies in something else: choose another.") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} is not writable: choose another folder.")


def check_regular(path: str | os.PathLike) -> int:
    """Checks that a path is a regular file and returns its size in bytes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is a folder, or a pipe, device or socket, which may be endless.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist.") from None
    except ValueError as error:  # a null character
        raise ValueError(f"{str(path)!r} is not a path: {error}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{path} is a folder, not a file.")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is a pipe or a device, not a file.")
    return found.st_size


def open_regular(path: str | os.PathLike, limit: int | None = None) -> BinaryIO:
    """Opens a regular file in binary mode; never blocks on a pipe.

    Args:
        path: path of the file.
        limit: maximum size in bytes; None for no limit.

    Returns:
        A binary file object.

    Raises:
        FileNotFoundError, ValueError: as in `check_regular`, or if the file is larger than `limit`.
    """
    check_regular(path)
    # The path may have become a pipe since: opening it must not block, and the open file is checked again.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or (limit is not None and found.st_size > limit):
        file.close()
        reason = f"has {found.st_size:,} bytes, the limit is {limit:,}" if limit else "is not a file"
        raise ValueError(f"{path} {reason}.")
    return file


def read_limit(size: int) -> int:
    """Returns the maximum memory, in bytes, that reading a file of `size` bytes may take.

    Example:

    >>> read_limit(10_000) < 17_000_000, read_limit(100 << 20) // (100 << 20)
    (True, 20)
    """
    return EXPANSION * size + SPARE


def check_zip(path: str | os.PathLike) -> None:
    """Raises ValueError unless a zip archive is readable and expands to no more than its size allows.

    zipfile and PyTorch unpack no more than the archive declares.
    """
    size = check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is a damaged zip archive: {error}") from None
    if declared > read_limit(size):
        raise ValueError(f"{path} has {size:,} bytes and expands to {declared:,}: too much for weights.")


def read_zip_member(path: str | os.PathLike, name: str) -> bytes:
    """Returns the bytes of one file in a zip archive.

    Raises:
        ValueError: as in `check_zip`, or if the archive does not contain the file, or it is damaged.
    """
    check_zip(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged or does not contain {name}: {error}") from None


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes a JSON file atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def write_lines(lines: Iterable[str], path: str | os.PathLike) -> None:
    """Writes lines of text, such as the names of classes, atomically."""
    with atomic_write(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_history(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Writes rows as CSV atomically."""
    columns = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))


def write_csv(path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table as CSV atomically; characters that are not Unicode, as in names of files, as escapes."""
    with (
        atomic_write(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows([columns, *rows])
