"""Random access to encoded images that are read from disk on demand.

A source is a sequence of (bytes of an image file, label), so training can use any order and resume at any image. Pillow
decodes the images of all datasets and converts every color mode to RGB.
"""

import hashlib
import math
import os
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.data.folders import FolderSource
from keras_resv2.data.images import decode_image
from keras_resv2.data.registry import DATASETS
from keras_resv2.data.tfds_records import TfdsRecords, open_builder

FINGERPRINTED = 1000


class Source(Protocol):
    """A sequence of encoded images with labels, see `open_source`."""

    name: str
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[bytes, Any]: ...

    def place(self, i: int) -> str: ...


def open_source(dataset: str, data_dir: str | os.PathLike | None, split: str, cache: bool = False) -> Source:
    """Opens the encoded images of one split.

    Args:
        dataset: name of a dataset of the registry that is `streamed`: "folder", for which `data_dir` contains folders
            ``train`` and ``test`` or ``val``, each with one folder of image files per class (see
            `keras_resv2.data.splits`); or "imagenette" or "imagenet2012", for which `data_dir` is a tensorflow-datasets
            directory that contains it.
        data_dir: the directory.
        split: "train" or "test".
        cache: whether to keep encoded images in memory once they have been read.

    Returns:
        A source: `len(source)`; `source[i]`, which returns ``(bytes, label)``; `source.class_names`; `source.name`, the
        name of the dataset; `source.place(i)`, the location of image `i` for messages.

    Raises:
        FileNotFoundError: if `data_dir` does not exist.
        ValueError: if there is no such dataset or split, or `data_dir` does not contain it.
        ImportError: if the dataset requires tensorflow-datasets, which is not installed.

    Example:

    >>> encoded, label = open_source("folder", "flowers", "train")[0]  # doctest: +SKIP
    """
    check_choice("dataset", dataset, [name for name, row in DATASETS.items() if row.streamed])
    row = DATASETS[dataset]
    check_choice("split", split, list(row.splits))
    if data_dir is None:
        raise ValueError(f"dataset {dataset!r} needs a data_dir: it is read from disk.")
    if not os.path.isdir(data_dir):
        raise FileNotFoundError(f"data_dir {data_dir} is not an existing directory.")
    source = TfdsRecords(open_builder(row, data_dir), row.splits[split]) if row.tfds else FolderSource(data_dir, split)
    return CachedSource(source) if cache else source


class CachedSource:
    """A source that caches another source in memory."""

    def __init__(self, source: Source):
        self.name, self.class_names, self.place = source.name, source.class_names, source.place
        self._source = source
        self._kept: list[tuple[bytes, Any] | None] = [None] * len(source)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, i: int) -> tuple[bytes, Any]:
        kept = self._kept[i]
        if kept is None:
            kept = self._kept[i] = self._source[i]
        return kept


def decode_readable(
    source: Source, positions: Iterable[int], damaged: str = "skip", **options: Any
) -> tuple[list[np.ndarray], dict[int, Any], list[str]]:
    """Decodes the images at some positions of a source, except for those that are damaged.

    Args:
        source: a source, see `open_source`.
        positions: numbers of the images.
        damaged: how to handle a damaged image: "skip" it, or "raise" its error.
        **options: arguments of `keras_resv2.data.images.decode_image`.

    Returns:
        ``(images, labels, problems)``: images, uint8 ``(height, width, 3)``; a dictionary from their positions to their
        labels; and messages about damaged images.

    Raises:
        ValueError: if an image is damaged and `damaged` is "raise".
    """
    images, labels, problems = [], {}, []
    for i in map(int, positions):
        encoded, label = source[i]
        try:
            images.append(decode_image(encoded, source.place(i), **options))
        except ValueError as error:
            if damaged == "raise":
                raise
            problems.append(str(error))
        else:
            labels[i] = label
    return images, labels, problems


def source_fingerprint(source: Source) -> str:
    """Returns a SHA-256, in hex, that identifies the images: of their number, the classes, and about a thousand images.

    Args:
        source: a source, see `open_source`.
    """
    digest = hashlib.sha256(repr((len(source), source.class_names)).encode())
    for i in range(0, len(source), math.ceil(len(source) / FINGERPRINTED)):
        encoded, label = source[i]
        digest.update(encoded + bytes(str(int(label)), "ascii"))
    return digest.hexdigest()
