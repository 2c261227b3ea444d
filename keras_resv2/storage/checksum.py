"""Check sums of files."""

import hashlib

from keras_resv2.files import open_regular

ALGORITHMS = {32: "md5", 64: "sha256"}  # by hexadecimal digits


def sha256(path):
    """SHA-256 of a file, in hex."""
    return _digest(path, "sha256")


def agrees(path, checksum):
    """Whether a file's sum is `checksum`: an MD5 or SHA-256, which its length tells, in hex."""
    return _digest(path, ALGORITHMS[len(checksum)]) == checksum


def _digest(path, algorithm):
    # MD5 is what some publishers give; against damage it is as good.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
