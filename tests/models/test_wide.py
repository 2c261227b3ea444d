"""Wide residual networks (Zagoruyko & Komodakis 2016): sizes in the paper, independent networks, names, files."""

import math

import numpy as np
import pytest

import keras_resv2
from helpers.comparing import RAW, assert_same, images, randomised, run_keras, run_torch
from keras_resv2 import ResNet
from keras_resv2.architectures import ARCHITECTURES, find_architecture, is_architecture, name_architecture
from keras_resv2.convert.infer_config import infer_config
from keras_resv2.convert.weight_shapes import weight_shapes
from keras_resv2.models.flops import count_multiply_adds
from keras_resv2.models.scan import is_rolled
from keras_resv2.models.structure import infer_structure
from keras_resv2.models.weights import model_arrays
from keras_resv2.storage.weight_file import save_weights


def parameters(name, classes):
    """Number of trainable parameters, without building the network."""
    shapes = weight_shapes(classes, **find_architecture(name).arguments())
    return sum(math.prod(shape) for key, shape in shapes.items() if "moving" not in key)


# Millions of parameters: Zagoruyko & Komodakis 2016, Tables 2, 4 and 5 (which counts CIFAR-10's classifier).
@pytest.mark.parametrize("name, millions", [
    ("wide_resnet40_2", 2.2), ("wide_resnet40_4", 8.9), ("wide_resnet40_8", 35.7), ("wide_resnet28_10", 36.5),
    ("wide_resnet28_12", 52.5), ("wide_resnet22_8", 17.2), ("wide_resnet22_10", 26.8), ("wide_resnet16_8", 11.0),
    ("wide_resnet16_10", 17.1),
])  # fmt: skip
def test_parameters_of_the_papers_tables(name, millions):
    assert round(parameters(name, 10) / 1e6, 1) == millions


@pytest.mark.parametrize("name, count", [("wide_resnet50_2", 68_883_240), ("wide_resnet101_2", 126_886_696)])
def test_parameters_of_torchvisions_documentation(name, count):
    assert parameters(name, 1000) == count


def test_channels_by_hand():
    """All channels of basic units are multiplied, only the inner ones of bottlenecks; the stem is unchanged."""
    basic = ResNet(8, activation="full_preactivation", width=3)
    kernels = {layer.name: layer.kernel.shape for layer in basic.layers if hasattr(layer, "kernel")}
    assert kernels["stem_conv"] == (3, 3, 3, 16) and kernels["stage1_unit1_shortcut_conv"] == (1, 1, 16, 48)
    assert kernels["stage1_unit1_conv1"] == (3, 3, 16, 48) and kernels["stage3_unit1_conv2"] == (3, 3, 192, 192)
    bottleneck = ResNet(11, width=3)
    kernels = [bottleneck.get_layer(f"stage2_unit1_conv{i}").kernel.shape for i in (1, 2, 3)]
    assert kernels == [(1, 1, 64, 96), (3, 3, 96, 96), (1, 1, 96, 128)]
    assert bottleneck.get_layer("stage1_unit1_shortcut_conv").kernel.shape == (1, 1, 16, 64)


def test_multiply_adds_by_hand():
    stage1 = 32 * 32 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    stage2 = 16 * 16 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    stage3 = 8 * 8 * (9 * 64 * 128 + 9 * 128 * 128 + 64 * 128)
    counted = count_multiply_adds(ResNet(8, activation="full_preactivation", width=2))
    assert counted == 32 * 32 * 27 * 16 + stage1 + stage2 + stage3 + 128 * 10


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
@pytest.mark.parametrize("depth, projection", [(8, None), (8, "A"), (8, "C"), (11, None)])
def test_outputs_are_those_of_plain_pytorch(activation, depth, projection, pixels, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.torch_networks import ResidualNetwork, copy_weights

    network = dict(activation=activation, projection=projection, width=2)
    ours = randomised(ResNet(depth, **network, classifier_activation=None))
    theirs = ResidualNetwork(depth, **network).eval()
    copy_weights(model_arrays(ours), theirs)
    assert_same(run_keras(ours, pixels), run_torch(torch, theirs, pixels.astype("float32")))


@pytest.mark.parametrize("variant", [
    dict(depth=20, activation="full_preactivation"), dict(depth=20), dict(depth=20, projection="A"),
    dict(depth=20, projection="C"), dict(depth=29, branch="bottleneck"),
])  # fmt: skip
def test_rolled_networks_and_their_structure(variant, pixels):
    plain = randomised(ResNet(**variant, width=2, classifier_activation=None))
    rolled = ResNet(**variant, width=2, classifier_activation=None, rolled=True, weights=model_arrays(plain))
    assert is_rolled(rolled) and not is_rolled(plain)
    assert_same(run_keras(rolled, pixels), run_keras(plain, pixels))
    expected = variant.get("projection", "B")
    assert infer_structure(plain)["projection"] == infer_structure(rolled)["projection"] == expected


def test_projections_in_every_unit_differ_from_projections_where_channels_change():
    assert infer_structure(ResNet(14, width=2, projection="C"))["projection"] == "C"
    assert infer_structure(ResNet(14, projection="C"))["projection"] == "C"
    assert infer_config(ResNet(14, width=2))["projection"] == "B"


def test_torchvisions_wide_networks(torchvision):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from helpers import torch_networks

    theirs = torch_networks.shaken(torchvision.models.wide_resnet50_2(num_classes=5))
    found = keras_resv2.convert.detect(theirs.state_dict())
    assert (found.layout, found.architecture, found.arguments) == ("torchvision", "wide_resnet50_2", {})
    with pytest.raises(ValueError, match=r"does not fit resnet50: .* It fits wide_resnet50_2"):
        keras_resv2.convert.detect(theirs.state_dict(), "resnet50")
    ours = found.build(**RAW, input_shape=(64, 64, 3))
    assert ours.name == "wide_resnet50_2"
    x = images((64, 64))
    assert_same(run_keras(ours, x), run_torch(torch, theirs, x))
    state = keras_resv2.convert.to_pytorch(ours, "torchvision")
    assert all(np.array_equal(state[key], value.numpy()) for key, value in theirs.state_dict().items() if key in state)


@pytest.mark.parametrize("depth, activation, width, name, others", [
    (26, "full_preactivation", 10, "wide_resnet28_10", {}),
    (32, "full_preactivation", 10, "wide_resnet34_10", {}),
    (50, "original", 2, "wide_resnet50_2", {}),
    (26, "original", 10, "resnet26", {"width": 10}),
    (50, "full_preactivation", 2, "preact_resnet50", {"width": 2}),
    (18, "original", 2, "resnet18", {"width": 2}),
    (164, "full_preactivation", 2, "preact_resnet164", {"width": 2}),
    (98, "full_preactivation", 2, "wide_resnet100_2", {}),
    (104, "full_preactivation", 2, "preact_resnet104", {"width": 2}),
    (26, "full_preactivation", 1, "preact_resnet26", {}),
])  # fmt: skip
def test_names(depth, activation, width, name, others):
    assert name_architecture(depth, activation, width) == (name, others)
    arguments = find_architecture(name).arguments(**others)
    assert (arguments["depth"], arguments["activation"], arguments.get("width", 1)) == (depth, activation, width)


def test_every_named_network_has_its_name():
    for name, row in ARCHITECTURES.items():
        assert name_architecture(row.depth, row.activation, row.width) == (name, {})


@pytest.mark.parametrize(
    "name", ["wide_resnet28", "wide_resnet28_1", "wide_resnet28_0", "wide_resnet30_2", "wide_resnet28_33",
             "wide_resnet4_2", "wide_resnet166_2", "wide_resnet52_2", "preact_wide_resnet28_10", "wide_resnet28_10_2"]
)  # fmt: skip
def test_invalid_names(name):
    assert not is_architecture(name)


@pytest.mark.parametrize("arguments, words", [
    (dict(depth=28, width=10), r"WRN-28-10 is keras_resv2.build\('wide_resnet28_10'\)\.$"),
    (dict(depth=52, width=2), r"101, 152, 200\.$"),
    (dict(depth=28, branch="bottleneck"), r"101, 152, 200\.$"),
    (dict(depth=20, width=0), "width=0 must be a whole number, at least 1"),
    (dict(depth=20, width=1.5), "width=1.5 must be a whole number"),
    (dict(depth=20, width=True), "width=True must be a whole number"),
])  # fmt: skip
def test_widths_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ResNet(**arguments)


@pytest.mark.parametrize("made, architecture, arguments", [
    (dict(depth=8, activation="full_preactivation", width=2), "wide_resnet10_2", {}),
    (dict(depth=8, width=2, projection="A"), "resnet8", {"width": 2, "projection": "A"}),
    (dict(depth=11, activation="full_preactivation", width=2), "preact_resnet11", {"width": 2}),
])  # fmt: skip
def test_a_weight_folder(made, architecture, arguments, pixels, tmp_path):
    model = randomised(ResNet(**made, classes=3))
    folder = keras_resv2.save_weight_folder(model, "mine-pets", ["cat", "dog", "fox"], tmp_path)
    card = keras_resv2.pretrained_card(folder)
    assert (card.architecture, card.arguments) == (architecture, arguments)
    opened = keras_resv2.from_pretrained(folder, classifier_activation=None)
    logits = ResNet(**made, classes=3, classifier_activation=None, weights=model_arrays(model))
    assert_same(run_keras(opened, pixels), run_keras(logits, pixels))


def test_weights_of_another_width_are_refused(tmp_path):
    save_weights(keras_resv2.build("wide_resnet10_2"), tmp_path / "w.h5")
    with pytest.raises(ValueError, match="stage1_unit1"):
        keras_resv2.build("wide_resnet10_3", weights=tmp_path / "w.h5")


def test_a_builder_takes_another_width():
    assert keras_resv2.WideResNet16_8(width=2).count_params() == keras_resv2.build("wide_resnet16_2").count_params()
    assert keras_resv2.ResNet20(width=2).name == "resnet20_width2"
    assert keras_resv2.ResNet(20, activation="bn_after_addition", width=2).name == "resnet20_bn_after_addition_width2"
