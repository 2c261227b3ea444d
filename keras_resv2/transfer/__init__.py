"""Transfer learning: freezing, fine-tuning, and the pictures for it."""

from keras_resv2.transfer.classifier import body_of
from keras_resv2.transfer.fine_tuning import FineTuned, fine_tune
from keras_resv2.transfer.freezing import freeze, unfreeze
from keras_resv2.transfer.pictures import LabelledPictures, prepare_images, read_folder, split_pictures

__all__ = [
    "FineTuned",
    "LabelledPictures",
    "body_of",
    "fine_tune",
    "freeze",
    "prepare_images",
    "read_folder",
    "split_pictures",
    "unfreeze",
]
