"""Data: the registry of datasets, arrays, folders of images, tensorflow-datasets directories, decoding."""

from keras_resv2.data.arrays import described, fingerprint, load_split, measure_pixels, open_dataset
from keras_resv2.data.folders import ImageFolder, class_folders, find_splits, read_folder
from keras_resv2.data.images import prepare_images, read_image
from keras_resv2.data.registry import DATASETS, Dataset, chance_error, find_dataset
from keras_resv2.data.splits import assign_splits, split_images

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageFolder",
    "assign_splits",
    "chance_error",
    "class_folders",
    "described",
    "find_dataset",
    "find_splits",
    "fingerprint",
    "load_split",
    "measure_pixels",
    "open_dataset",
    "prepare_images",
    "read_folder",
    "read_image",
    "split_images",
]
