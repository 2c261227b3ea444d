"""Random access to encoded images of a tensorflow-datasets directory, without TensorFlow."""

import concurrent.futures
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resv2.argument_checks import first_line
from keras_resv2.data.registry import Dataset


class TfdsRecords:
    """One split of a prepared dataset: a source, see `keras_resv2.data.sources.open_source`.

    Args:
        builder: dataset builder of tensorflow-datasets, as returned by `open_builder`.
        split: split of the dataset, such as "train" or "validation".

    Attributes:
        name: name of the dataset with its configuration and version.
        class_names: class names of the dataset.

    Raises:
        ValueError: if the dataset was prepared without that split, or it is damaged.
    """

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        self.name, self._split = builder.info.full_name, split
        self._features, self._decoders = builder.info.features, {"image": tfds.decode.SkipDecoding()}
        self.class_names: tuple[str, ...] = tuple(self._features["label"].names)
        self._records = _records(tfds, builder, split)

    def __len__(self):
        return len(self._records)

    def __getitem__(self, i):
        """Returns ``(bytes of the image file, label)`` of record `i`."""
        example = self.example(i)
        return bytes(example["image"]), np.int32(example["label"])

    def example(self, i: int) -> dict[str, Any]:
        """Returns all features of record `i`, with the image still encoded."""
        record = self._records[i]
        try:
            return self._features.deserialize_example_np(record, decoders=self._decoders)
        except Exception as error:  # protobuf and tfds raise many types; all mean a damaged record
            raise ValueError(f"{self.place(i)} is damaged: {type(error).__name__}.") from None

    def place(self, i: int) -> str:
        """Returns the location of image `i`."""
        return f"{self.name}, {self._split}, record {i}"


def open_builder(dataset: str | Dataset, data_dir: str | os.PathLike | None = None) -> Any:
    """Opens a prepared dataset of tensorflow-datasets.

    Args:
        dataset: `keras_resv2.data.Dataset` that has `tfds`, or any name known to tensorflow-datasets, such as
            "cats_vs_dogs" or "imagenette/320px".
        data_dir: tensorflow-datasets directory. None for the default directory, which downloads missing data, as
            happens for a name.

    Returns:
        `tfds.core.DatasetBuilder`, prepared.

    Raises:
        ImportError: if tensorflow-datasets is not installed.
        ValueError: if `data_dir` does not contain the dataset, tensorflow-datasets does not know or cannot read it, or
            it does not have images with labels.
    """
    name = dataset if isinstance(dataset, str) else dataset.name
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError(
            f"reading {name} needs tensorflow-datasets: pip install tensorflow-datasets, or use an .npz file or "
            "folders of images."
        ) from None
    try:
        if isinstance(dataset, str) or data_dir is None:
            builder = tfds.builder(name, data_dir=data_dir)
            builder.download_and_prepare()
        else:
            builder = tfds.builder_from_directory(_prepared(dataset, data_dir))
    except NotPreparedError:
        raise
    except Exception as error:  # tfds raises many types; all mean that the dataset cannot be read
        raise ValueError(f"{data_dir or 'tensorflow-datasets'}: {name} cannot be read: {first_line(error)}") from None
    found = dict(builder.info.features.items())
    image, label = (found.get(key) for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            f"{name} of tensorflow-datasets has no images with class labels: it has {', '.join(sorted(found))}."
        )
    return builder


class NotPreparedError(ValueError):
    """Raised when a tensorflow-datasets directory does not contain a dataset."""


def _prepared(dataset, data_dir):
    """Returns the folder of the dataset's newest version."""
    for place in dataset.tfds:
        found = {}
        for path in pathlib.Path(data_dir, place).glob("*/dataset_info.json"):
            version = path.parent.name.split(".")
            # The folder of an incompletely prepared version has a longer name.
            if len(version) == 3 and all(part.isdigit() for part in version):
                found[tuple(map(int, version))] = path.parent
        if found:
            return found[max(found)]
    raise NotPreparedError(
        f"{data_dir} does not contain {dataset.name} prepared by tensorflow-datasets: pass a tensorflow-datasets "
        "directory "
        f"(with {dataset.tfds[0]}/ in it)" + (f". {dataset.how_to_get}" if dataset.how_to_get else " or an .npz file.")
    )


def _records(tfds, builder, split):
    """Opens the records of a split as a sequence of bytes."""
    info = builder.info.splits.get(split)
    if info is None or not info.num_examples:
        raise ValueError(f"{builder.info.full_name} was prepared without the split {split!r}.")
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    records = TFRecords(info.filepaths)
    if len(records) != info.num_examples:
        raise ValueError(f"{builder.info.full_name}, {split}, has {len(records)} records, not {info.num_examples}.")
    return records


class TFRecords:
    """Random access to the records of TFRecord files.

    The format has no index. It is created once from the length before each record, which takes a few bytes of reading
    per record. Training can then use any order, as with separate files, and resume without reading the records before.
    Checksums are not verified.

    Args:
        paths: paths of the files, in order.

    Raises:
        ValueError: if a file is truncated.

    Example:

    >>> TFRecords(["mnist-train.tfrecord-00000-of-00001"])[7]  # doctest: +SKIP
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        self._paths = [os.fspath(path) for path in paths]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # limited by the disk, not the CPU
            spans = list(pool.map(_spans, self._paths))
        self._file = np.repeat(np.arange(len(spans)), [len(of_file) for of_file in spans])
        self._spans = np.concatenate(spans)

    def __len__(self):
        return len(self._spans)

    def __getitem__(self, i):
        start, length = map(int, self._spans[i])
        with open(self._paths[self._file[i]], "rb") as file:
            file.seek(start)
            return file.read(length)


def _spans(path):
    """Finds (start, length) of each record: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
    spans, position = [], 0
    with open(path, "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while position < end:
            file.seek(position)
            length = int.from_bytes(file.read(8), "little")
            spans.append((position + 12, length))
            position += 12 + length + 4
    if position != end:
        raise ValueError(f"{path} is damaged: it ends within a record.")
    return np.asarray(spans, "int64").reshape(-1, 2)
