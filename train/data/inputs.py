"""What a run trains on and is measured with: a small dataset on the accelerator, or pictures from disk."""

import dataclasses
from collections.abc import Callable

import keras

from keras_resv2 import datasets
from keras_resv2.choices import check_choice
from keras_resv2.evaluation import measure_error
from train.data import image_files, image_stream
from train.data.device_data import DeviceData
from train.data.image_files import PICTURE_DATASETS as PICTURES
from train.devices import ONE_DEVICE


@dataclasses.dataclass(frozen=True)
class Input:
    """The data of a run.

    Attributes:
        source: of batches: `train.data.device_data.DeviceData` or `train.data.image_stream.TrainStream`.
        measure: function from a network, an object with `predict_on_batch`, to its test errors in
            percent: a dictionary whose "test_error" is the one that counts.
        class_names: in the order of the labels.
        image_shape: of the network's input; sides that may vary are None.
        train_images, test_images: how many there are.
        fingerprints: of the data: SHA-256 by split.
        keeps_class_names: whether the run writes down the names of the classes, which no registry has.
    """

    source: object
    measure: Callable
    class_names: tuple
    image_shape: tuple
    train_images: int
    test_images: int
    fingerprints: dict
    keeps_class_names: bool = False


def open_input(dataset, data_dir, recipe, seed, resize=False, cache=False, devices=ONE_DEVICE):
    """Opens the data of a run.

    Args:
        dataset: a key of `keras_resv2.datasets.DATASETS`, or one of `PICTURES`.
        data_dir: where it is.
        recipe: `train.recipes.Recipe`.
        seed: of the order and the augmentation.
        resize: whether small images of another size than the dataset's may be resized.
        cache: whether pictures from disk stay in memory, as they are in their files.
        devices: `train.devices.Devices`: each process reads its part of every batch from disk.

    Returns:
        `Input`.

    Raises:
        ValueError: recipe and dataset do not go together, or the data are not as they should be.
        FileNotFoundError: `data_dir` does not exist.
    """
    check_choice("dataset", dataset, (*datasets.DATASETS, *PICTURES))
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("training takes image_data_format channels_last: set it in keras.json.")
    if (dataset in PICTURES) != (recipe.crop == "scale"):
        wanted = PICTURES if recipe.crop == "scale" else datasets.DATASETS
        raise ValueError(f"this recipe is for --dataset {' or '.join(wanted)}, not {dataset}.")
    if dataset in PICTURES:
        return _pictures(dataset, data_dir, recipe, seed, cache, devices)
    return _small_dataset(dataset, data_dir, recipe, seed, resize)


def _small_dataset(name, data_dir, recipe, seed, resize):
    dataset = datasets.DATASETS[name]
    train, test = (datasets.load_split(name, split, data_dir, resize=resize) for split in dataset.splits)
    return Input(
        source=DeviceData(*train, recipe, seed),
        measure=lambda network: {"test_error": measure_error(network, *test)},
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        train_images=len(train[1]),
        test_images=len(test[1]),
        fingerprints={"train": datasets.fingerprint(*train), "test": datasets.fingerprint(*test)},
    )


def _pictures(dataset, data_dir, recipe, seed, cache, devices):
    train, test = (image_files.open_source(dataset, data_dir, split, cache=cache) for split in ("train", "test"))
    part = devices.process, devices.processes
    return Input(
        source=image_stream.TrainStream(train, recipe.batch_size, recipe.image_size, seed, part),
        measure=lambda network: view_errors(network, test, recipe.views),
        class_names=train.class_names,
        image_shape=(None, None, 3),
        train_images=len(train),
        test_images=len(test),
        fingerprints={"train": image_files.fingerprint(train), "test": image_files.fingerprint(test)},
        keeps_class_names=True,
    )


def view_errors(network, source, views):
    """Top-1 errors in percent, one for each view: "test_error" of the first, "test_error_320" of others.

    Args:
        network: an object with `predict_on_batch`.
        source: as `train.data.image_files.open_source` returns.
        views: ((shorter side, centre crop), ...) in pixels.
    """
    names = ["test_error", *(f"test_error_{size}" for _, size in views[1:])]
    return {name: image_stream.measure_error(network, source, *view) for name, view in zip(names, views, strict=True)}
