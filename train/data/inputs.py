"""Training and test data of a run: a small dataset on the accelerator, or images streamed from disk."""

import dataclasses
from collections.abc import Callable

import keras

from keras_resv2 import data
from keras_resv2.argument_checks import check_choice
from keras_resv2.data.sources import open_source, source_fingerprint
from keras_resv2.evaluation import measure_error, measure_streamed_error
from train.config import check_options
from train.data import image_stream
from train.data.device_data import DeviceData
from train.devices import ONE_DEVICE

LARGEST_INDEX = 2**31  # of a pixel on the accelerator, where indices are int32


@dataclasses.dataclass(frozen=True)
class Input:
    """The data of a run.

    Attributes:
        source: source of batches: `train.data.device_data.DeviceData` or `train.data.image_stream.TrainStream`.
        measure: function from a network, an object with `predict_on_batch`, to a dictionary of test errors in percent,
            of which "test_error" is the main one.
        class_names: class names in the order of the labels.
        image_shape: shape of the network's input; None for variable sides.
        pixels: ``(mean, std)`` of the dataset's pixels, used by the network for normalization.
        train_images, test_images: numbers of images.
        fingerprints: SHA-256 of the data by split.
        from_data: names of attributes that come from the data instead of the registry, which are recorded by the run.
    """

    source: object
    measure: Callable
    class_names: tuple
    image_shape: tuple
    pixels: tuple
    train_images: int
    test_images: int
    fingerprints: dict
    from_data: tuple[str, ...] = ()


def open_input(dataset, data_dir, recipe, seed, resize=False, cache=False, devices=ONE_DEVICE):
    """Opens the data of a run.

    Args:
        dataset: a key of `keras_resv2.data.DATASETS`.
        data_dir: location of the dataset.
        recipe: `train.recipe.Recipe`.
        seed: random seed of the order and the augmentation.
        resize: whether to resize images of another size, for small datasets.
        cache: whether to keep encoded image files in memory.
        devices: `train.devices.Devices`: each process reads its part of every batch from disk.

    Returns:
        `Input`.

    Raises:
        ValueError: if recipe and dataset do not match, or the data are invalid.
        FileNotFoundError: if `data_dir` does not exist.
    """
    check_choice("dataset", dataset, data.DATASETS)
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("training requires image_data_format channels_last: set it in keras.json.")
    row = data.DATASETS[dataset]
    if row.streamed != (recipe.crop == "scale"):
        wanted = [name for name, other in data.DATASETS.items() if other.streamed != row.streamed]
        raise ValueError(f"this recipe is for --dataset {' or '.join(wanted)}, not {dataset}.")
    check_options(dataset, resize, cache)
    if row.streamed:
        return _streamed(row, data_dir, recipe, seed, cache, devices)
    return _in_memory(row, data_dir, recipe, seed, resize)


def _in_memory(row, data_dir, recipe, seed, resize):
    measured = data.open_dataset(row.name, data_dir)
    train, test = (data.load_split(measured, split, data_dir, resize=resize) for split in row.splits)
    height, width, _ = measured.image_shape
    recipe.check_image_size(measured.image_shape)
    if len(train[1]) * (height + 2 * recipe.pad) * (width + 2 * recipe.pad) >= LARGEST_INDEX:
        raise ValueError(
            f"{data_dir}: {len(train[1]):,} training images of {height}x{width} have too many pixels for the "
            "accelerator: use smaller images, or train from a folder (--recipe imagenet --dataset folder)."
        )
    return Input(
        source=DeviceData(*train, recipe, seed),
        measure=lambda network: {"test_error": measure_error(network, *test)},
        class_names=measured.class_names,
        image_shape=measured.image_shape,
        pixels=measured.pixels,
        train_images=len(train[1]),
        test_images=len(test[1]),
        fingerprints={"train": data.fingerprint(*train), "test": data.fingerprint(*test)},
        from_data=() if row.image_shape else ("class_names", "image_shape"),
    )


def _streamed(row, data_dir, recipe, seed, cache, devices):
    train, test = (open_source(row.name, data_dir, split, cache=cache) for split in row.splits)
    if len(train.class_names) < 2:
        raise ValueError(
            f"{data_dir} contains images of only one class, {train.class_names[0]}: training needs at least two, "
            "in one folder each."
        )
    sides, part = recipe.for_images(len(train)).sides(), (devices.process, devices.processes)
    return Input(
        source=image_stream.TrainStream(train, recipe.batch_size, sides, seed, part),
        measure=lambda network: view_errors(network, test, recipe.views),
        class_names=train.class_names,
        image_shape=(None, None, 3),
        pixels=row.pixels,
        train_images=len(train),
        test_images=len(test),
        fingerprints={"train": source_fingerprint(train), "test": source_fingerprint(test)},
        from_data=("class_names",),
    )


def view_errors(network, source, views):
    """Measures top-1 errors in percent for each view: "test_error" for the first, "test_error_320" for others.

    Args:
        network: an object with `predict_on_batch`.
        source: as `keras_resv2.data.sources.open_source` returns.
        views: ((shorter side, center crop), ...) in pixels.
    """
    names = ["test_error", *(f"test_error_{size}" for _, size in views[1:])]
    return {name: measure_streamed_error(network, source, *view) for name, view in zip(names, views, strict=True)}
