"""Encoded pictures of a tensorflow-datasets directory, with random access and without TensorFlow."""

import concurrent.futures
import os
import pathlib

import numpy as np

TFDS_SPLITS = {"train": "train", "test": "validation"}
# Where a dataset may be, the place to look first: the larger pictures, and the split of version 2.
PLACES = {
    "imagenette": [
        f"imagenette/{variant}" for variant in ("full-size-v2", "320px-v2", "160px-v2", "full-size", "320px", "160px")
    ],
    "imagenet2012": ["imagenet2012"],
}
HOW_TO_GET = {
    "imagenette": "`tfds build imagenette/full-size-v2 --data_dir DIR` downloads it.",
    "imagenet2012": (
        "It cannot be downloaded automatically: get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
        "https://image-net.org/download-images and run `tfds build imagenet2012 --data_dir DIR --manual_dir TARS`, "
        "where the folder TARS holds both files."
    ),
}


class TfdsRecords:
    """One split of a prepared dataset: a source, as `train.data.image_files.open_source` returns.

    Args:
        dataset: a key of `PLACES`.
        data_dir: tensorflow-datasets directory.
        split: "train" or "test".

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: `data_dir` does not hold the split, or it is damaged.
    """

    def __init__(self, dataset, data_dir, split):
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise ImportError(
                f"reading {dataset} needs tensorflow-datasets: pip install tensorflow-datasets, "
                "or give folders of pictures."
            ) from None
        builder = tfds.builder_from_directory(_prepared(dataset, data_dir))
        self.name, self._split = builder.info.full_name, TFDS_SPLITS[split]
        self.class_names = tuple(builder.info.features["label"].names)
        self._records = _records(tfds, builder, self._split)
        self._features, self._decoders = builder.info.features, {"image": tfds.decode.SkipDecoding()}

    def __len__(self):
        return len(self._records)

    def __getitem__(self, i):
        """``(bytes of the picture file, label)`` of record `i`."""
        record = self._records[i]
        try:
            example = self._features.deserialize_example_np(record, decoders=self._decoders)
        except Exception as error:  # protobuf and tfds raise many types; all mean a damaged record
            raise ValueError(f"{self.place(i)} is damaged: {type(error).__name__}.") from None
        return bytes(example["image"]), np.int32(example["label"])

    def place(self, i):
        """Which record picture `i` is."""
        return f"{self.name}, {self._split}, record {i}"


def _prepared(dataset, data_dir):
    """Folder of the dataset's newest version."""
    for place in PLACES[dataset]:
        # The folder of a version that was not prepared to the end has a longer name.
        found = sorted(pathlib.Path(data_dir, place).glob("[0-9].[0-9].[0-9]/dataset_info.json"))
        if found:
            return found[-1].parent
    raise ValueError(f"{data_dir} holds no {dataset} that tensorflow-datasets prepared. {HOW_TO_GET[dataset]}")


def _records(tfds, builder, split):
    """Sequence of the bytes of the records of a split."""
    info = builder.info.splits.get(split)
    if info is None or not info.num_examples:
        raise ValueError(f"{builder.info.full_name} was prepared without its split {split!r}.")
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    records = TFRecords(info.filepaths)
    if len(records) != info.num_examples:
        raise ValueError(f"{builder.info.full_name}, {split}, has {len(records)} records, not {info.num_examples}.")
    return records


class TFRecords:
    """Random access to the records of TFRecord files.

    The format has no index. It is made here, once, from the length that stands before each record: a
    few bytes read per record. So the order of training is as free as with files, and resuming costs
    no reading of what was seen before. Checksums are not compared.

    Args:
        paths: of the files, in order.

    Raises:
        ValueError: a file ends within a record.

    Example:

    >>> TFRecords(["mnist-train.tfrecord-00000-of-00001"])[7]  # doctest: +SKIP
    """

    def __init__(self, paths):
        self._paths = [os.fspath(path) for path in paths]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # the time is the disk's, not the processor's
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
    """(start, length) of each record: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
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
