"""The residual unit: the two tables of the paper, combination by combination."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2 import ResNet
from keras_resv2.models import blocks as units
from keras_resv2.models import shortcuts
from keras_resv2.models.config import resolve_network
from keras_resv2.models.scan import is_rolled
from keras_resv2.models.weights import model_arrays

ACTIVATIONS = list(units.ACTIVATIONS)
SHORTCUTS = list(shortcuts.SHORTCUTS)


def names(model, unit):
    return [layer.name.removeprefix(f"{unit}_") for layer in model.layers if layer.name.startswith(f"{unit}_")]


# Fig. 4 of the paper, written out: the layers of a unit in the order in which x meets them.
FIGURE_4 = {
    "original": ["conv1", "bn1", "relu1", "conv2", "bn2", "add", "postact_relu"],
    "bn_after_addition": ["conv1", "bn1", "relu1", "conv2", "add", "postact_bn", "postact_relu"],
    "relu_before_addition": ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "add"],
    "relu_only_preactivation": ["preact_relu", "conv1", "bn1", "relu1", "conv2", "bn2", "add"],
    "full_preactivation": ["preact_bn", "preact_relu", "conv1", "bn1", "relu1", "conv2", "add"],
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_order_of_layers_is_figure_4(activation):
    model = ResNet(20, activation=activation)
    assert names(model, "stage1_unit2") == FIGURE_4[activation]


def test_bottleneck_is_1x1_3x3_1x1_with_four_times_the_width():
    model = ResNet(29, activation="full_preactivation")
    kernels = [model.get_layer(f"stage2_unit2_conv{i}").kernel.shape for i in (1, 2, 3)]
    assert [tuple(shape) for shape in kernels] == [(1, 1, 128, 32), (3, 3, 32, 32), (1, 1, 32, 128)]


@pytest.mark.parametrize("stride_on, expected", [("1x1", [2, 1, 1]), ("3x3", [1, 2, 1])])
def test_stride_on(stride_on, expected):
    model = ResNet(50, stride_on=stride_on)
    assert [model.get_layer(f"stage2_unit1_conv{i}").strides[0] for i in (1, 2, 3)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("activation, shortcut", itertools.product(ACTIVATIONS, SHORTCUTS))
@pytest.mark.parametrize("depth, branch", [(8, "basic"), (11, "bottleneck")])
def test_every_combination_trains_one_step(activation, shortcut, depth, branch, pixels):
    """No weight is disconnected: each gets a gradient in one step."""
    model = ResNet(depth, activation=activation, shortcut=shortcut, branch=branch, input_shape=(8, 8, 3))
    before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
    loss = model.train_on_batch(pixels[:, :8, :8], np.arange(8))
    assert np.isfinite(loss)
    after = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    still = [w.path for w, a, b in zip(model.trainable_weights, before, after, strict=True) if np.array_equal(a, b)]
    assert not still


@pytest.mark.parametrize("projection", ["A", "B", "C"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_projections(projection, activation):
    """A has no parameters, B a convolution in each unit that changes size, C one in every unit."""
    model = ResNet(14, activation=activation, projection=projection)
    convolutions = [layer.name for layer in model.layers if layer.name.endswith("_shortcut_conv")]
    expected = {
        "A": [],
        "B": ["stage2_unit1", "stage3_unit1"],
        "C": [f"stage{s}_unit{u}" for s in (1, 2, 3) for u in (1, 2)],
    }
    assert convolutions == [f"{unit}_shortcut_conv" for unit in expected[projection]]


def unit_function(shortcut, x, branch_weight=1.0):
    """A single unit with one kind of shortcut and a known branch."""
    model = ResNet(
        8, activation="relu_only_preactivation", shortcut=shortcut, include_preprocessing=False, input_shape=(8, 8, 3)
    )
    add = model.get_layer("stage1_unit1_add")
    inputs, branch = add.input
    part = keras.Model(model.input, [model.get_layer("stage1_unit1_preact_relu").output, inputs, branch, add.output])
    return model, [keras.ops.convert_to_numpy(t) for t in part(x)]


@pytest.fixture
def small_input():
    return np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype("float32")


def raw_branch(model, x):
    return keras.ops.convert_to_numpy(keras.Model(model.input, model.get_layer("stage1_unit1_bn2").output)(x))


def gate(model, h):
    """g(x) = sigmoid(W x + b), section 3.1, with NumPy."""
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in model.get_layer("stage1_unit1_gate_conv").weights)
    return 1 / (1 + np.exp(-(h @ kernel[0, 0] + bias)))


def test_identity_adds_x(small_input):
    model, (h, shortcut, branch, total) = unit_function("identity", small_input)
    np.testing.assert_array_equal(shortcut, h)
    np.testing.assert_allclose(total, h + raw_branch(model, small_input), atol=1e-5)


def test_constant_scaling_multiplies_both_paths(small_input):
    model, (h, shortcut, branch, total) = unit_function(shortcuts.ConstantScaling(0.3, 0.7), small_input)
    np.testing.assert_allclose(shortcut, 0.3 * h, atol=1e-5)
    np.testing.assert_allclose(branch, 0.7 * raw_branch(model, small_input), atol=1e-5)


@pytest.mark.parametrize("bias", [0, -3, -10])
def test_exclusive_gating(bias, small_input):
    model, (h, shortcut, branch, total) = unit_function(shortcuts.ExclusiveGating(bias), small_input)
    g = gate(model, h)
    assert np.all(keras.ops.convert_to_numpy(model.get_layer("stage1_unit1_gate_conv").bias) == bias)
    np.testing.assert_allclose(shortcut, (1 - g) * h, atol=1e-5)
    np.testing.assert_allclose(branch, g * raw_branch(model, small_input), atol=1e-5)


def test_shortcut_only_gating_leaves_the_branch(small_input):
    model, (h, shortcut, branch, total) = unit_function("shortcut_only_gating(bias=-1)", small_input)
    np.testing.assert_allclose(shortcut, (1 - gate(model, h)) * h, atol=1e-5)
    np.testing.assert_allclose(branch, raw_branch(model, small_input), atol=1e-5)


def test_conv1x1_replaces_the_identity(small_input):
    model, (h, shortcut, branch, total) = unit_function("conv1x1", small_input)
    kernel = keras.ops.convert_to_numpy(model.get_layer("stage1_unit1_shortcut_conv").kernel)
    bn = 1 / np.sqrt(1 + 1e-5)  # moving statistics of an untrained network
    np.testing.assert_allclose(shortcut, h @ kernel[0, 0] * bn, atol=1e-5)


def test_dropout_drops_the_shortcut_in_training_alone(small_input):
    model, (h, shortcut, branch, total) = unit_function("dropout(rate=0.5)", small_input)
    np.testing.assert_array_equal(shortcut, h)
    layer = model.get_layer("stage1_unit1_shortcut_dropout")
    dropped = keras.ops.convert_to_numpy(layer(np.ones((100, 100), "float32"), training=True))
    assert 0.45 < (dropped == 0).mean() < 0.55


def test_plain_network_adds_nothing():
    model = ResNet(20, shortcut="none")
    assert not [layer.name for layer in model.layers if "add" in layer.name or "shortcut" in layer.name]


def test_option_a_subsamples_and_pads_with_zeros(small_input):
    model = ResNet(8, activation="relu_before_addition", include_preprocessing=False, input_shape=(8, 8, 3))
    add = model.get_layer("stage2_unit1_add")
    x, shortcut = keras.Model(model.input, [model.get_layer("stage1_unit1_add").output, add.input[0]])(small_input)
    expected = np.zeros((2, 4, 4, 32))
    expected[..., 8:24] = keras.ops.convert_to_numpy(x)[:, ::2, ::2]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(shortcut), expected)


def test_first_preactivation_is_shared_by_both_paths():
    """The paper's appendix: the first activation comes before the split into two paths."""
    model = ResNet(20, activation="full_preactivation")
    first, second = (model.get_layer(f"stage1_unit{u}_add").input[0] for u in (1, 2))
    assert first is model.get_layer("stage1_unit1_preact_relu").output
    assert second is model.get_layer("stage1_unit1_add").output


def test_full_preactivation_projects_the_shared_activation():
    model = ResNet(29, activation="full_preactivation")
    assert model.get_layer("stage2_unit1_shortcut_conv").input is model.get_layer("stage2_unit1_preact_relu").output


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_text_of_a_shortcut_reads_back(shortcut):
    value = shortcuts.get_shortcut(shortcut)
    assert shortcuts.get_shortcut(str(value)) == value


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(activation="preactivation"), ["full_preactivation", "original"]),
        (dict(shortcut="gating"), ["exclusive_gating", "shortcut_only_gating"]),
        (dict(shortcut="exclusive_gating(b=-6)"), ["bias"]),
        (dict(shortcut="exclusive_gating(bias=low)"), ["number"]),
        (dict(shortcut=7), ["identity"]),
        (dict(shortcut="dropout(rate=1)"), ["below 1"]),
        (dict(depth=38, branch="wide"), ["basic", "bottleneck"]),
        (dict(projection="D"), ["'A'", "'B'", "'C'"]),
        (dict(projection="none"), ["need a projection", "'A'"]),
        (dict(projection="B", shortcut="none"), ["plain"]),
        (dict(stride_on="5x5"), ["1x1", "3x3"]),
        (dict(stem="mnist"), ["cifar", "imagenet"]),
        (dict(depth=21), ["6n+2", "9n+2"]),
        (dict(depth=2), ["6n+2"]),
        (dict(depth=50, branch="basic"), ["bottleneck"]),
        (dict(depth=20.0), ["whole number"]),
        (dict(pooling="mean"), ["avg", "max"]),
        (dict(classes=0), ["at least 1"]),
        (dict(input_shape=(32, 32)), ["three entries"]),
        (dict(input_shape=(32, 32, None)), ["number of channels"]),
        (dict(input_shape=(3, 32, 3)), ["at least 4"]),
        (dict(depth=50, input_shape=(16, 16, 3)), ["at least 32", "stem='cifar'"]),
    ],
)
def test_errors_for_invalid_networks_say_what_is_valid(arguments, words):
    with pytest.raises(ValueError) as error:
        ResNet(**{"depth": 20, **arguments})
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_layers_of_a_custom_shortcut_get_their_weights(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Learned(shortcuts.Shortcut):
        name = "learned"

        def __call__(self, shortcut, branch, gate_input, strides, layers, name):
            conv = keras.layers.Conv2D(shortcut.shape[-1], 1, use_bias=False, name=f"{name}_shortcut_learned")
            return conv(shortcut), branch

    model = ResNet(20, shortcut=Learned())
    keras_resv2.save_weights(model, tmp_path / "w.h5")
    for rolled in (False, True):
        again = ResNet(20, shortcut=Learned(), weights=tmp_path / "w.h5", rolled=rolled)
        assert is_rolled(again) == rolled
        found = model_arrays(again)
        assert all(np.array_equal(array, found[name]) for name, array in model_arrays(model).items())


@pytest.mark.parametrize(
    "depth, arguments",
    [
        (20, {"stride_on": "3x3"}),
        (20, {"stride_on": "1x1"}),
        (20, {"activated_shortcuts": "none"}),
        (20, {"conv_bias": True}),
    ],
)
def test_arguments_without_effect_are_the_same_network(depth, arguments):
    assert resolve_network(depth, **arguments) == resolve_network(depth)
    names = [{weight.path for weight in ResNet(depth, **given).weights} for given in ({}, arguments)]
    assert names[0] == names[1]
