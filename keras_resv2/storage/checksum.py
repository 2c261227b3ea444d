"""Checksums of files. `keras_resv2.storage.local.verify_checksum` compares a weight file with its card."""

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

from keras_resv2.files import open_regular

# PyTorch's convention for weight files: ``resnet18-f37072fd.pth``.
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.[a-z0-9.]+")
ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}  # by hexadecimal digits


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, in hex."""
    return _digest(path, "sha256")


def agrees(path: str | os.PathLike, checksum: str) -> bool:
    """Returns whether a file has a checksum in hex: by its length an MD5, a SHA-1, a SHA-256, or the first
    digits of one.
    """
    return _digest(path, ALGORITHMS.get(len(checksum), "sha256")).startswith(checksum)


def checksum_of(origin: Mapping[str, Any]) -> str | None:
    """Returns the checksum that a card's `origin` states of the file to download, for `agrees`; None if it has none.

    Example:

    >>> checksum_of({"file": "resnet18-f37072fd.pth"})
    'f37072fd'
    """
    return origin.get("md5") or origin.get("sha1") or digits_of_name(origin["file"])


def digits_of_name(name: str) -> str | None:
    """Returns the first hex digits of the SHA-256 of a file that its name contains, at least eight; None without them.

    Example:

    >>> digits_of_name("resnet18-f37072fd.pth")
    'f37072fd'
    """
    found = DIGITS.search(name)
    return found[1] if found else None


def _digest(path, algorithm):
    # Some publishers only provide MD5 or SHA-1, which detect damage just as well.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
