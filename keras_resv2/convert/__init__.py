"""Weights from other libraries: torchvision, timm, CIFAR checkpoints, keras.applications; and back to PyTorch.

>>> from keras_resv2 import convert
>>> model = convert.from_pytorch("resnet18.pth")  # doctest: +SKIP
>>> convert.save_pytorch(model, "resnet18.safetensors", layout="torchvision")  # doctest: +SKIP

Each family of networks is one file that says how its names correspond to those of
`keras_resv2.resnet`: `torchvision`, `cifar`, `timm`, `applications`.
"""

from keras_resv2.convert.detection import Detected, detect, from_keras_applications, from_pytorch
from keras_resv2.convert.export import save_pytorch, to_pytorch

__all__ = ["Detected", "detect", "from_keras_applications", "from_pytorch", "save_pytorch", "to_pytorch"]
