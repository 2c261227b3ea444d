"""Dilation in place of strides: the same weights, larger maps, against torchvision and by hand."""

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import run_keras
from keras_resv2 import ResNet, feature_info, features
from keras_resv2.models.weights import model_arrays


@pytest.mark.parametrize("depth, output_stride, rates", [
    (50, 16, {"stage3_unit6_conv2": 1, "stage4_unit1_conv2": 1, "stage4_unit2_conv2": 2}),
    (50, 8, {"stage3_unit1_conv2": 1, "stage3_unit2_conv2": 2, "stage4_unit1_conv2": 2, "stage4_unit2_conv2": 4}),
    (18, 8, {"stage3_unit1_conv1": 1, "stage3_unit1_conv2": 2, "stage4_unit1_conv1": 2, "stage4_unit1_conv2": 4}),
    (20, 1, {"stage2_unit1_conv1": 1, "stage2_unit2_conv1": 2, "stage3_unit1_conv1": 2, "stage3_unit3_conv2": 4}),
])  # fmt: skip
def test_strides_become_dilations(depth, output_stride, rates):
    model = ResNet(depth, output_stride=output_stride, include_top=False)
    assert {name: model.get_layer(name).dilation_rate[0] for name in rates} == rates
    assert feature_info(model)[-1].stride == output_stride
    assert {layer.dilation_rate[0] for layer in model.layers if "shortcut_conv" in layer.name} <= {1}


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_every_second_pixel_is_that_of_the_strided_network(activation, rolled):
    """Without borders: the dilated convolutions see the same pixels there."""
    network = {"activation": activation, "input_shape": (128, 128, 3)}
    strided = ResNet(20, **network)
    dilated = ResNet(20, **network, output_stride=2, rolled=rolled, weights=model_arrays(strided))
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype="uint8")
    theirs, ours = (run_keras(features(model, ["stage3"]), images)["stage3"] for model in (strided, dilated))
    assert theirs.shape == (1, 32, 32, 64) and ours.shape == (1, 64, 64, 64)
    np.testing.assert_allclose(ours[:, ::2, ::2][:, 15:17, 15:17], theirs[:, 15:17, 15:17], atol=1e-3)
    assert np.ptp(theirs[:, 15:17, 15:17], axis=-1).min() > 0.1


@pytest.mark.parametrize("variant", [
    dict(depth=11, branch="bottleneck", stride_on="1x1"),
    dict(depth=11, branch="bottleneck", stride_on="3x3", projection="C"),
    dict(depth=8, activation="full_preactivation", shortcut="exclusive_gating"),
    dict(depth=50, stride_on="1x1"),
])  # fmt: skip
def test_the_pixels_that_both_have_are_equal(variant):
    """Zeros beyond the border included; whichever convolution has the stride."""
    strided = ResNet(**variant, include_top=False, input_shape=(64, 64, 3))
    smallest = 8 if variant["depth"] == 50 else 1
    both = ResNet(**variant, include_top=False, input_shape=(64, 64, 3), output_stride=smallest)
    both.set_weights(strided.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype="uint8")
    theirs, ours = (run_keras(model, images) for model in (strided, both))
    assert np.ptp(theirs) > 0.5
    np.testing.assert_allclose(ours[:, ::4, ::4], theirs, atol=1e-4 * np.abs(theirs).max())


def test_named_weights_are_dilated():
    """The pixels far from the border that both networks have are equal; so are the networks of both ways to ask."""
    plain = keras_resv2.from_pretrained("resnet20-cifar10", include_top=False)
    dilated = keras_resv2.from_pretrained("resnet20-cifar10", include_top=False, output_stride=1)
    built = keras_resv2.ResNet20(weights="cifar10", include_top=False, output_stride=1)
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype="uint8")
    theirs, ours, by_builder = (run_keras(model, images) for model in (plain, dilated, built))
    assert theirs.shape == (1, 32, 32, 64) and ours.shape == (1, 128, 128, 64)
    np.testing.assert_array_equal(by_builder, ours)
    np.testing.assert_allclose(ours[:, ::4, ::4][:, 15:17, 15:17], theirs[:, 15:17, 15:17], atol=1e-4)
    with pytest.raises(ValueError, match="must be one of 1, 2, 4"):
        keras_resv2.from_pretrained("resnet20-cifar10", output_stride=8)


@pytest.fixture(scope="module")
def resnet50(torchvision):
    """The state of torchvision's ResNet-50 with random weights, and the same weights converted."""
    torch = pytest.importorskip("torch")
    plain = torchvision.models.resnet50(weights=None)
    generator = torch.Generator().manual_seed(0)
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return plain.state_dict(), model_arrays(keras_resv2.convert.from_pytorch(plain))


@pytest.mark.parametrize("output_stride, replaced", [(16, (False, False, True)), (8, (False, True, True))])
def test_outputs_are_those_of_torchvision(output_stride, replaced, resnet50, torchvision):
    torch = pytest.importorskip("torch")
    state, weights = resnet50
    theirs = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=list(replaced)).eval()
    theirs.load_state_dict(state)
    ours = ResNet(50, output_stride=output_stride, weights=weights, classifier_activation=None, input_shape=(64, 64, 3))
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in ours.layers)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    with torch.no_grad():
        expected = theirs(torch.tensor(((pixels - mean) / std).transpose(0, 3, 1, 2).astype("float32"))).numpy()
    np.testing.assert_allclose(run_keras(ours, pixels), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("arguments, words", [
    (dict(depth=50, output_stride=4), None),
    (dict(depth=50, output_stride=12), "must be one of 4, 8, 16, 32"),
    (dict(depth=50, output_stride=64), "must be one of 4, 8, 16, 32"),
    (dict(depth=20, output_stride=8), "must be one of 1, 2, 4"),
    (dict(depth=50, output_stride=8, stride_in="last"), "stride_in='first'"),
    (dict(depth=20, output_stride=2, projection="A_average"), "another projection than 'A_average'"),
    (dict(depth=20, output_stride=2, padding="tensorflow"), "requires padding='torch'"),
    (dict(depth=20, output_stride=2.0), "output_stride=2.0 must be a whole number"),
    (dict(depth=20, output_stride=True), "output_stride=True must be a whole number"),
])  # fmt: skip
def test_output_strides_that_there_are(arguments, words):
    if words is None:
        assert feature_info(ResNet(**arguments, include_top=False))[-1].stride == arguments["output_stride"]
    else:
        with pytest.raises(ValueError, match=words):
            ResNet(**arguments)
