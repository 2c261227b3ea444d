"""Weight files by address, as on PyTorch's hub: the file name has the first hex digits of the file's SHA-256."""

import urllib.parse

from keras_resv2.convert.readers.pytorch_file import check_pytorch
from keras_resv2.files import check_file_name
from keras_resv2.storage import download
from keras_resv2.storage.checksum import agrees, digits_of_name
from keras_resv2.storage.local import home

LARGEST_FILE = 1 << 30  # bytes


def is_url(source):
    """Whether a source is an address, not a path."""
    return isinstance(source, str) and urllib.parse.urlsplit(source).scheme in ("http", "https", "file")


def fetch_url(url):
    """Downloads a file into the cache, unless it is there.

    Args:
        url: address of a file whose name ends in at least the first eight hex digits of its SHA-256, such as
            ``resnet18-f37072fd.pth``.

    Returns:
        `pathlib.Path` of the file, whose checksum begins with these digits.

    Raises:
        ValueError: if the name has no such digits, or the file, also one in the cache, has another checksum.
        ImportError: if it is a PyTorch file, and PyTorch is not installed.
        OSError: if the file cannot be downloaded, or the cache cannot be written.
    """
    name = check_file_name(urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2], "name of the file")
    digits = digits_of_name(name)
    if digits is None:
        raise ValueError(
            f"{url}: its name does not have the first eight digits of its SHA-256, as resnet18-f37072fd.pth has: "
            "download it, check it, and give its path."
        )
    path = home() / "downloads" / name
    check_pytorch(path)
    cached = path.exists()
    download.fetch(url, path, None, digits, LARGEST_FILE)  # verifies what it downloads
    if cached and not agrees(path, digits):
        raise ValueError(f"{path}, downloaded before, is damaged: its checksum differs. Delete it and try again.")
    return path
