"""Networks of Keras' example cifar10_resnet, rebuilt here from its description; padding as TensorFlow has it."""

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import RAW, assert_same, images, randomised
from keras_resv2 import convert


def example(units=1, bottlenecks=False, option_a=False):
    """Version 1 (or the first stage of version 2): biases everywhere, no batch normalization on 1x1 shortcuts."""

    def conv(x, filters, size, strides=1):
        return keras.layers.Conv2D(filters, size, strides=strides, padding="same")(x)

    def activate(x):
        return keras.layers.Activation("relu")(x)

    def norm(x):
        return keras.layers.BatchNormalization()(x)

    x = inputs = keras.Input((32, 32, 3))
    x = activate(norm(conv(x, 16, 3)))
    for stage, width in enumerate((16, 32, 64)):
        for unit in range(units):
            strides = 2 if stage and not unit else 1
            if bottlenecks:
                y = conv(activate(norm(conv(x, width, 1, strides))), width, 3)
                y = conv(activate(norm(y)), 4 * width, 1)
            else:
                y = norm(conv(activate(norm(conv(x, width, 3, strides))), width, 3))
            if option_a and strides > 1:  # as gahaalt/ResNets-in-tensorflow2: zeros after the channels
                x = keras.ops.pad(x[:, ::2, ::2], [[0, 0]] * 3 + [[0, width - x.shape[-1]]])
            elif strides > 1 or bottlenecks:
                x = conv(x, y.shape[-1], 1, strides)
            x = activate(keras.layers.Add()([x, y]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module")
def theirs():
    """With two units a stage; its numbers do not start at nought."""
    return randomised(example(2))


@pytest.mark.parametrize("form", ["model", "weights.weights.h5", "whole.keras", "whole.h5"])
def test_the_example_gives_the_same_logits(theirs, form, tmp_path):
    source = theirs
    if form != "model":
        source = tmp_path / form
        (theirs.save_weights if "weights" in form else theirs.save)(source)
    found = convert.detect(source)
    assert (found.layout, found.architecture, found.classes) == ("keras_example", "resnet14", 10)
    assert found.arguments["padding"] == "tensorflow" and found.arguments["projection"] == "B"
    x = images((32, 32))
    dense = theirs.layers[-1]
    logits = keras.Model(theirs.input, dense.input).predict(x, verbose=0) @ dense.get_weights()[0]
    logits += dense.get_weights()[1]
    assert_same(found.build(**RAW).predict(x, verbose=0), logits)


def test_where_the_zeros_of_option_a_are_is_an_assumption():
    model = randomised(example(option_a=True))
    tensors = {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}
    assert any("zero_channels='after'" in phrase for phrase in convert.detect(tensors).assumed)
    found = convert.detect(tensors, zero_channels="after")
    assert found.arguments.get("projection", "A") == "A" and not any(
        "zero_channels" in phrase for phrase in found.assumed
    )
    x = images((32, 32))
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    expected = keras.Model(model.input, dense.input).predict(x, verbose=0) @ kernel + bias
    assert_same(found.build(**RAW).predict(x, verbose=0), expected)


def test_where_the_zeros_of_option_a_are_shows_in_a_model():
    """It is run; features are compared, whose channels have another order in ours."""
    model, x = randomised(example(option_a=True)), images((32, 32))
    kernel, bias = model.layers[-1].get_weights()
    expected = keras.Model(model.input, model.layers[-1].input).predict(x, verbose=0) @ kernel + bias
    for found in (convert.detect(model), convert.detect(model, zero_channels="after")):
        assert_same(found.build(**RAW).predict(x, verbose=0), expected)
    with pytest.raises(ValueError, match="gives other outputs") as refusal:
        convert.detect(model, zero_channels="both_sides")
    assert "state_dict" not in str(refusal.value)


def test_version_2_is_refused():
    with pytest.raises(ValueError, match="version 2 of Keras' example"):
        convert.detect(example(bottlenecks=True))


@pytest.mark.parametrize("size", [32, 27])
def test_padding_as_tensorflow_has_it(size):
    """Against one convolution by hand: of an even side nothing stands before the first pixel."""
    model = keras_resv2.ResNet(8, padding="tensorflow", **RAW, input_shape=(size, size, 3))
    layer = model.get_layer("stage2_unit1_conv1")
    x = np.random.default_rng(0).normal(size=(1, size, size, 16)).astype("float32")
    found = keras.ops.convert_to_numpy(layer(x))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    before = 0 if size % 2 == 0 else 1
    padded = np.pad(x, ((0, 0), (before, 1), (before, 1), (0, 0)))
    window = padded[0, 2:5, 4:7]  # of the output in row 1, column 2
    np.testing.assert_allclose(found[0, 1, 2], np.einsum("hwi,hwio->o", window, kernel), atol=1e-5)


def test_networks_with_that_padding_are_not_written_for_pytorch():
    with pytest.raises(ValueError, match="padding='torch'"):
        convert.to_pytorch(keras_resv2.ResNet(8, padding="tensorflow"), "cifar")
    with pytest.raises(ValueError, match="'torch', 'tensorflow'"):
        keras_resv2.ResNet(8, padding="valid")
