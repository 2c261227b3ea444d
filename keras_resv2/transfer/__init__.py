"""Transfer learning: freezing, fine-tuning, images to train on, and saving the result."""

from keras_resv2.data import ImageFolder, prepare_images, read_folder, split_images
from keras_resv2.transfer.fine_tuning import FineTuned, fine_tune
from keras_resv2.transfer.freezing import freeze, unfreeze
from keras_resv2.transfer.head import body_of
from keras_resv2.transfer.weight_folder import save_weight_folder

__all__ = [
    "FineTuned",
    "ImageFolder",
    "body_of",
    "fine_tune",
    "freeze",
    "prepare_images",
    "read_folder",
    "save_weight_folder",
    "split_images",
    "unfreeze",
]
