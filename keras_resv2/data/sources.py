"""Images that stay on disk until they are needed: encoded, with random access.

A source is a sequence of (bytes of an image file, label), so the order of training is free and a run
resumes at any image. Whatever the dataset, Pillow decodes: every colour mode becomes RGB.
"""

import hashlib
import math
import os

from keras_resv2.argument_checks import check_choice
from keras_resv2.data.folders import FolderSource
from keras_resv2.data.registry import DATASETS
from keras_resv2.data.tfds_records import TfdsRecords, open_builder

FINGERPRINTED = 1000


def open_source(dataset, data_dir, split, cache=False):
    """The images of one split, not yet decoded.

    Args:
        dataset: name of a dataset of the registry that is `streamed`: "folder", for which `data_dir` holds
            folders ``train`` and ``test`` or ``val``, each with one folder of image files per class (the rule
            is that of `keras_resv2.data.splits`); or "imagenette" or "imagenet2012", for which `data_dir` is a
            tensorflow-datasets directory that holds it.
        data_dir: the directory.
        split: "train" or "test".
        cache: whether to keep in memory, still encoded, what was read once.

    Returns:
        A source: `len(source)`; `source[i]`, which is ``(bytes, label)``; `source.class_names`;
        `source.name`, which dataset this is; `source.place(i)`, where image `i` is, for messages.

    Raises:
        FileNotFoundError: `data_dir` does not exist.
        ValueError: there is no such dataset or split, or `data_dir` does not hold it.
        ImportError: the dataset needs tensorflow-datasets, and it is not installed.

    Example:

    >>> encoded, label = open_source("folder", "flowers", "train")[0]  # doctest: +SKIP
    """
    check_choice("dataset", dataset, [name for name, row in DATASETS.items() if row.streamed])
    row = DATASETS[dataset]
    check_choice("split", split, list(row.splits))
    if data_dir is None:
        raise ValueError(f"dataset {dataset!r} needs a data_dir: it is read from disk.")
    if not os.path.isdir(data_dir):
        raise FileNotFoundError(f"data_dir {data_dir} is not a directory that exists.")
    source = TfdsRecords(open_builder(row, data_dir), row.splits[split]) if row.tfds else FolderSource(data_dir, split)
    return CachedSource(source) if cache else source


class CachedSource:
    """A source that keeps in memory what it has read of another source."""

    def __init__(self, source):
        self.name, self.class_names, self.place = source.name, source.class_names, source.place
        self._source, self._kept = source, [None] * len(source)

    def __len__(self):
        return len(self._kept)

    def __getitem__(self, i):
        if self._kept[i] is None:
            self._kept[i] = self._source[i]
        return self._kept[i]


def source_fingerprint(source):
    """SHA-256, in hex, of which images these are: their number, the classes, and about a thousand of them.

    Args:
        source: as `open_source` returns.
    """
    digest = hashlib.sha256(repr((len(source), source.class_names)).encode())
    for i in range(0, len(source), math.ceil(len(source) / FINGERPRINTED)):
        encoded, label = source[i]
        digest.update(encoded + bytes(str(int(label)), "ascii"))
    return digest.hexdigest()
