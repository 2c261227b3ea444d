"""pytorchcv's networks give the outputs that ours give; its own code, random weights and batch normalization."""

import importlib

import numpy as np
import pytest

from helpers.comparing import RAW, assert_same, images, run_torch
from keras_resv2 import convert
from keras_resv2.convert.layouts.pytorchcv import stride_of_name

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("pytorchcv", reason="pytorchcv is not installed: pip install --no-deps pytorchcv")

# module, function, its arguments: architecture, size of the images, and what the tensors do not say
NETWORKS = {
    "resnet8_cifar10": ("resnet_cifar", dict(blocks=8, bottleneck=False, num_classes=10), "resnet8", 32, {}),
    "resnet11bn_cifar10": ("resnet_cifar", dict(blocks=11, bottleneck=True, num_classes=10), "resnet11", 32, {}),
    "preresnet8_svhn": ("preresnet_cifar", dict(blocks=8, bottleneck=False, num_classes=10), "preact_resnet8", 32, {}),
    "preresnet11bn": ("preresnet_cifar", dict(blocks=11, bottleneck=True, num_classes=100), "preact_resnet11", 32, {}),
    "wrn10_2_cifar10": ("wrn_cifar", dict(num_classes=10, blocks=10, width_factor=2), "wide_resnet10_2", 32, {}),
    "resnet18": ("resnet", dict(blocks=18), "resnet18", 75, {}),
    "preresnet18": ("preresnet", dict(blocks=18), "preact_resnet18", 75, {}),
    "preresnet50b": ("preresnet", dict(blocks=50, conv1_stride=False), "preact_resnet50", 64, {"stride_on": "3x3"}),
}  # fmt: skip


def network(name):
    """A network of pytorchcv for images of any size; its architecture here, and arguments of `detect`."""
    from helpers import torch_networks

    module, options, architecture, size, said = NETWORKS[name]
    functions = vars(importlib.import_module(f"pytorchcv.models.{module}"))
    theirs = functions[f"get_{module}"](**options)
    theirs.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch_networks.shaken(theirs), architecture, size, said


@pytest.mark.parametrize("name", NETWORKS)
def test_pytorchcv_gives_the_same_outputs_and_loads_ours(name):
    theirs, architecture, size, said = network(name)
    x = images((size, size))
    expected = run_torch(torch, theirs, x)
    found = convert.detect(theirs.state_dict(), **said)
    assert (found.layout, found.architecture) == ("pytorchcv", architecture)
    ours = found.build(**RAW, input_shape=(size, size, 3))
    assert_same(ours.predict(x, verbose=0), expected)
    state = convert.to_pytorch(ours, "pytorchcv")
    original = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert state.keys() == original.keys()
    assert all(np.array_equal(state[key], original[key].numpy()) for key in state)


def test_a_whole_module_says_where_its_strides_are():
    """Networks called "b" have the same tensors as those that are not."""
    theirs, *_ = network("preresnet50b")
    assert "stride_on" not in convert.detect(theirs).arguments  # 3x3, the default of ImageNet networks
    found = convert.detect(theirs.state_dict())
    assert found.arguments["stride_on"] == "1x1"
    assert any("first 1x1 convolution (else: stride_on='3x3')" in phrase for phrase in found.assumed)


@pytest.mark.parametrize("file, stride_on", [
    ("resnet50b-0599.pth", "3x3"), ("preresnet101b-0540.tf2.h5", "3x3"), ("resnet50-0633.pth", "1x1"),
    ("resnetbc26b/resnet50.pth", "1x1"), ("the module", "1x1"),
])  # fmt: skip
def test_the_name_of_a_file_says_where_its_strides_are(file, stride_on):
    assert stride_of_name([], file) == {"stride_on": stride_on}


@pytest.mark.parametrize("name, depth", [("resnet1001_cifar10", 1001)])
def test_the_deepest_is_detected(name, depth):
    module = importlib.import_module("pytorchcv.models.resnet_cifar")
    with torch.device("meta"):
        shapes = getattr(module, name)().state_dict()
    found = convert.detect({key: np.zeros(value.shape, "float32") for key, value in shapes.items()})
    assert (found.architecture, found.classes) == (f"resnet{depth}", 10)


def test_pixels_are_those_of_its_training_code(pixels):
    theirs, *_ = network("resnet8_cifar10")
    ours = convert.from_pytorch(theirs.state_dict(), classifier_activation=None)
    x = (pixels / 255 - (0.4914, 0.4822, 0.4465)) / (0.2023, 0.1994, 0.2010)
    assert_same(ours.predict(pixels, verbose=0), run_torch(torch, theirs, x.astype("float32")))
