"""Images with other numbers of channels than three: builders, and pretrained weights adapted to them."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.published import publish
from keras_resv2.models.pixels import takes_raw_pixels
from keras_resv2.pretrained import adapt_channels
from keras_resv2.storage.checksum import sha256

NAME = "resnet20-cifar10"


def test_pixels_of_one_channel_are_normalized_by_the_averages_of_three():
    model = keras_resv2.ResNet(8, input_shape=(32, 32, 1))
    normalize = keras.Model(model.input, model.get_layer("preprocessing").output)
    mean, std = (125.307 + 122.950 + 113.865) / 3, (62.993 + 62.089 + 66.705) / 3  # of CIFAR-10's training images
    values = normalize.predict(np.full((1, 32, 32, 1), 255, "uint8"), verbose=0)
    np.testing.assert_allclose(values, (255 - mean) / std, rtol=1e-5)
    assert takes_raw_pixels(model) and model.get_layer("stem_conv").kernel.shape == (3, 3, 1, 16)


def test_weights_of_grayscale_images_are_adapted_to_colors(tmp_path):
    """The kernel is divided among the channels: gray pixels in all of them give the same outputs."""
    gray = keras_resv2.ResNet20(input_shape=(32, 32, 1), preprocessing=((33.3,), (78.6,)), classifier_activation=None)
    card, _ = publish(tmp_path, image_shape=(32, 32, 1), arguments={"preprocessing": [[33.3], [78.6]]})
    folder = tmp_path / "resnet20-cifar10/1"
    keras_resv2.save_weights(gray, folder / "weights.h5")
    size = (folder / "weights.h5").stat().st_size
    card = dataclasses.replace(
        card, size=size, sha256=sha256(folder / "weights.h5"), image_shape=(32, 32, 1), parameters=269_434,
        arguments={"preprocessing": [[33.3], [78.6]]},
    )  # fmt: skip
    (folder / "card.json").write_text(card.to_json())
    color = keras_resv2.from_pretrained(folder, channels=3, classifier_activation=None)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype="uint8")
    expected = gray.predict(images, verbose=0)
    np.testing.assert_allclose(color.predict(images.repeat(3, -1), verbose=0), expected, atol=1e-4)


def test_statistics_may_be_given_for_each_channel():
    statistics = ((10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0))
    model = keras_resv2.ResNet(8, input_shape=(8, 8, 4), preprocessing=statistics, classes=3)
    normalize = keras.Model(model.input, model.get_layer("preprocessing").output)
    pixels = np.array([11, 24, 39, 56], "uint8").reshape(1, 1, 1, 4).repeat(8, 1).repeat(8, 2)
    np.testing.assert_allclose(normalize.predict(pixels, verbose=0)[0, 0, 0], [1, 2, 3, 4], rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_is_adapted_as_timm_does(channels, torchvision):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    timm = pytest.importorskip("timm", reason="timm is not installed")
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype("float32")
    theirs = timm.models.adapt_input_conv(channels, torch.tensor(kernel.transpose(3, 2, 0, 1)))
    np.testing.assert_allclose(adapt_channels(kernel, channels), theirs.numpy().transpose(2, 3, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 6])
def test_equal_channels_give_what_three_of_them_give(channels, real_images):
    """Without preprocessing, whose statistics differ from channel to channel."""
    grey = real_images[0][:4].mean(axis=-1, keepdims=True) / 64 - 2
    settings = {"include_preprocessing": False, "classifier_activation": None}
    three = keras_resv2.from_pretrained(NAME, **settings).predict(grey.repeat(3, -1), verbose=0)
    adapted = keras_resv2.from_pretrained(NAME, channels=channels, **settings)
    assert adapted.input_shape == (None, 32, 32, channels)
    np.testing.assert_allclose(adapted.predict(grey.repeat(channels, -1), verbose=0), three, atol=2e-4)
    assert np.ptp(three, axis=0).max() > 1


def test_grey_images_are_classified_as_their_three_copies_nearly_are(real_images):
    grey = real_images[0].mean(axis=-1, keepdims=True).round().astype("uint8")
    logits = keras_resv2.from_pretrained(NAME, classifier_activation=None).predict(grey.repeat(3, -1), verbose=0)
    model = keras_resv2.from_pretrained(NAME, channels=1, classifier_activation=None)
    ours = model.predict(grey, verbose=0)
    assert np.abs(ours - logits).max() < 0.25 * np.abs(logits).max()
    np.testing.assert_allclose(keras_resv2.fold(model).predict(grey, verbose=0), ours, atol=1e-3)


def test_without_the_classifier_any_size_and_the_channels_given():
    assert keras_resv2.from_pretrained(NAME, channels=1, include_top=False).input_shape == (None, None, None, 1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: keras_resv2.from_pretrained(NAME, input_shape=(32, 32, 1)), "channels=1\\) adapts"),
        (lambda: keras_resv2.from_pretrained(NAME, channels=1, input_shape=(32, 32, 3)), "has 3 channels"),
        (lambda: keras_resv2.from_pretrained(NAME, channels=0), "channels=0"),
        (lambda: keras_resv2.ResNet(8, input_shape=(32, 32, None)), "the number of channels"),
        (
            lambda: keras_resv2.ResNet(8, input_shape=(32, 32, 4), preprocessing=((1, 2), (3, 4))),
            "statistics of 2 channels, but images have 4",
        ),
    ],
)
def test_mismatches_are_rejected(call, words):
    with pytest.raises(ValueError, match=words):
        call()
