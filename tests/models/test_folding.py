"""The inference form has the same outputs without the batch normalization that can be folded, for any graph."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import run_keras
from keras_resv2 import ResNet, fold
from keras_resv2.evaluation import find_mistakes, slices
from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.models.graph import calls, is_cast
from keras_resv2.models.shortcuts import SHORTCUTS

OTHER_BACKENDS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]
layers = keras.layers


def normalizations(model):
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def randomise(model, seed=0):
    """Sets batch normalization far from the identity, and non-zero biases."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomise(layer)
        elif isinstance(layer, layers.BatchNormalization):
            low = {"gamma": 0.5, "moving_variance": 0.5, "beta": -0.5, "moving_mean": -0.5}
            layer.set_weights([rng.uniform(low[w.name], low[w.name] + 1, w.shape) for w in layer.weights])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.uniform(-0.5, 0.5, layer.bias.shape))
    return model


def random_images(height, width, count=3):
    """Random uint8 images, each of one random color with noise."""
    rng = np.random.default_rng(1)
    colors = rng.integers(40, 216, (count, 1, 1, 3))
    return (colors + rng.integers(-40, 40, (count, height, width, 3))).astype("uint8")


def assert_same_outputs(folded, model, x, within=1e-4):
    found, expected = run_keras(folded, x), run_keras(model, x)
    keras.tree.assert_same_structure(found, expected)
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        a, b = (np.asarray(values, "float32") for values in (a, b))
        assert np.ptp(b, axis=0).max() > 100 * within, "the images make no difference"
        np.testing.assert_allclose(a, b, atol=within * max(1.0, np.abs(b).max()), rtol=0)


def units_that_normalize(activation, shortcut, stem, units=3):
    """Batch normalization that cannot be folded, by hand."""
    if activation not in ("bn_after_addition", "full_preactivation"):
        return 0  # always right after a convolution
    before = activation == "full_preactivation"
    if shortcut == "none":  # nothing is added: it follows a convolution, or the stem's pooling
        return int(before and stem == "imagenet")
    if not before:
        return units
    return units + 1 - (stem == "cifar")  # the head's; the first unit's follows the convolution of the CIFAR stem


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "depth, stem, size, shortcut",
    [(8, "imagenet", (37, 45), shortcut) for shortcut in SHORTCUTS]
    + [(11, "cifar", (19, 13), shortcut) for shortcut in ("identity", "exclusive_gating", "none")],
)
def test_every_network(activation, shortcut, depth, stem, size):
    """Outputs, remaining layers, and names, for the cells of the paper's two tables: basic and bottleneck units."""
    arguments = dict(activation=activation, shortcut=shortcut, stem=stem, input_shape=(*size, 3), classes=7)
    model = ResNet(depth, classifier_activation=None, **arguments)
    folded = fold(randomise(model))
    assert_same_outputs(folded, model, random_images(*size))
    left = normalizations(folded)
    assert len(left) == units_that_normalize(activation, shortcut, stem)
    gone = {*normalizations(model)} - {*left}
    gone |= {layer.name for layer in model.layers if isinstance(layer, layers.Dropout)}
    assert sorted(layer.name for layer in folded.layers) == sorted({layer.name for layer in model.layers} - gone)


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
@pytest.mark.parametrize(
    "depth, stem, options",
    [
        (11, "imagenet", {"stride_on": "3x3", "classifier_activation": None}),
        (8, "cifar", {"projection": "B", "include_top": False}),
        (8, "cifar", {"projection": "C", "pooling": "max", "include_top": False}),
        (8, "imagenet", {"include_preprocessing": False, "classifier_activation": None}),
    ],
)
def test_other_arguments(activation, depth, stem, options):
    """Images of any size, and floats."""
    model = ResNet(depth, activation=activation, stem=stem, input_shape=(None, None, 3), **options)
    folded = fold(randomise(model))
    for size in ((33, 41), (26, 20)):
        x = random_images(*size).astype("float32")
        assert_same_outputs(folded, model, x if options.get("include_preprocessing", True) else x / 64 - 2)


@pytest.mark.parametrize("use_bias", [False, True])
def test_kernel_and_bias_are_those_that_torch_finds(use_bias):
    torch = pytest.importorskip("torch")
    x = keras.Input((9, 7, 4))
    conv, norm = layers.Conv2D(6, 3, use_bias=use_bias, groups=2, name="conv"), layers.BatchNormalization(epsilon=1e-3)
    folded = fold(randomise(keras.Model(x, norm(conv(x)))))

    theirs, theirs_norm = torch.nn.Conv2d(4, 6, 3, bias=use_bias, groups=2), torch.nn.BatchNorm2d(6, eps=1e-3)
    with torch.no_grad():
        for parameter, value in (
            (theirs.weight, keras.ops.transpose(conv.kernel, (3, 2, 0, 1))),
            *([(theirs.bias, conv.bias)] if use_bias else []),
            (theirs_norm.weight, norm.gamma),
            (theirs_norm.bias, norm.beta),
            (theirs_norm.running_mean, norm.moving_mean),
            (theirs_norm.running_var, norm.moving_variance),
        ):
            parameter.copy_(torch.tensor(np.array(keras.ops.convert_to_numpy(value))))
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(theirs.eval(), theirs_norm.eval())
    kernel, bias = folded.get_layer("conv").get_weights()
    np.testing.assert_allclose(kernel.transpose(3, 2, 0, 1), fused.weight.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(bias, fused.bias.detach().numpy(), atol=1e-6)


def one_reader(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3)(x))


def without_scale_and_offset(x):
    return layers.BatchNormalization(scale=False)(
        layers.Conv2D(4, 1)(layers.BatchNormalization(center=False)(layers.Conv2D(4, 3)(x)))
    )


def dense(x):
    return layers.BatchNormalization()(layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def two_readers(x):
    y = layers.Conv2D(4, 3)(x)
    return layers.Add()([y, layers.BatchNormalization()(y)])


def read_twice_by_one_layer(x):
    y = layers.BatchNormalization()(layers.Conv2D(4, 3)(x))
    return layers.Multiply()([y, y])


def an_output_too(x):
    y = layers.Conv2D(4, 3)(x)
    return [layers.BatchNormalization()(y), y]


def called_twice(x):
    conv, norm = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
    return norm(conv(norm(conv(x))))


def after_a_relu(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x))


def over_another_axis(x):
    return layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(x))


def after_dropout(x):
    return layers.Dropout(0.5)(layers.BatchNormalization()(layers.SpatialDropout2D(0.5)(x)))


def statistics_of_the_batch(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=True)


class Doubled(layers.Conv2D):
    def call(self, inputs):
        return 2 * super().call(inputs)


def after_a_subclass(x):
    return layers.BatchNormalization()(Doubled(4, 3)(x))


def operations(x):
    return keras.ops.relu(layers.BatchNormalization()(layers.Conv2D(4, 3)(x / 64)) - 0.5)


@pytest.mark.parametrize(
    "graph, left",
    [
        (one_reader, 0),
        (without_scale_and_offset, 0),
        (dense, 0),
        (read_twice_by_one_layer, 0),
        (operations, 0),
        (two_readers, 1),
        (an_output_too, 1),
        (called_twice, 1),
        (after_a_relu, 1),
        (over_another_axis, 1),
        (after_dropout, 1),
        (after_a_subclass, 1),
        (statistics_of_the_batch, 1),
    ],
)
def test_only_valid_candidates_are_folded(graph, left):
    x = keras.Input((11, 9, 3))
    model = randomise(keras.Model(x, graph(x)))
    folded = fold(model)
    assert_same_outputs(folded, model, random_images(11, 9) / np.float32(64))
    assert len(normalizations(folded)) == left
    assert not any(isinstance(layer, layers.Dropout) for layer in folded.layers)
    assert not any(layer.trainable for layer in folded.layers if isinstance(layer, layers.BatchNormalization))


def test_dropout_that_is_called_in_training_mode_is_kept():
    """Monte Carlo dropout is random where the model is called (`predict` overrides the argument)."""
    x = keras.Input((8, 8, 3))
    folded = fold(keras.Model(x, layers.Dropout(0.5, seed=0)(layers.Conv2D(4, 3)(x), training=True)))
    outputs = keras.ops.convert_to_numpy(folded(np.ones((4, 8, 8, 3), "float32")))
    assert 0.2 < np.mean(outputs == 0) < 0.8


def test_calls_in_training_mode_keep_their_layers():
    """A layer called twice, once in training mode; and a model inside the model, called so."""
    x, drop = keras.Input((8, 8, 3)), layers.Dropout(0.5, seed=0)
    both = keras.layers.Concatenate()([drop(x), drop(x, training=True)])
    outputs = keras.ops.convert_to_numpy(fold(keras.Model(x, both))(np.ones((4, 8, 8, 3), "float32")))
    assert 0.2 < np.mean(outputs[..., 3:] == 0) < 0.8
    inner_x = keras.Input((8, 8, 3))
    inner = randomise(keras.Model(inner_x, layers.BatchNormalization()(layers.Conv2D(4, 3)(inner_x))))
    model = keras.Model(x, inner(x, training=True))
    images = random_images(8, 8) / np.float32(64)
    expected, found = (keras.ops.convert_to_numpy(network(images)) for network in (model, fold(model)))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - model.predict(images, verbose=0)).max() > 0.1  # statistics of the batch


@pytest.mark.parametrize("layer", [layers.Dropout(0.5), layers.BatchNormalization()])
def test_layers_called_by_keyword(layer):
    x = keras.Input((8, 8, 3))
    model = randomise(keras.Model(x, layer(inputs=layers.Conv2D(4, 3)(x))))
    assert_same_outputs(fold(model), model, random_images(8, 8) / np.float32(64))


@pytest.mark.parametrize("activation, left", [("original", 0), ("full_preactivation", 4)])
def test_features_too(activation, left):
    """In pre-activation networks the stem's convolution is an output, so nothing is folded into it."""
    model = randomise(ResNet(8, activation=activation, include_top=False, input_shape=(17, 21, 3)))
    names = ["stage1", "stem", "stage3"] + ["head"] * (left > 0)
    backbone = keras_resv2.features(model, names)
    folded = fold(backbone)
    assert list(folded.output) == names
    assert_same_outputs(folded, backbone, random_images(17, 21))
    assert len(normalizations(folded)) == left


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_networks_inside_networks(kind):
    backbone = ResNet(8, include_top=False, pooling="avg", input_shape=(17, 21, 3))
    inputs, head = keras.Input((17, 21, 3)), [layers.Dropout(0.5), layers.Dense(5, name="head")]
    if kind == "functional":
        model = keras.Model(inputs, keras.Sequential(head)(backbone(inputs)))
    else:
        model = keras.Sequential([inputs, backbone, *head])
    folded = fold(randomise(model))
    assert_same_outputs(folded, model, random_images(17, 21))
    assert normalizations(backbone) and not normalizations(folded.get_layer(backbone.name))


def test_preprocessing():
    """The factor is folded, the mean is that of the dataset; one factor per channel, or a single one."""
    folded = fold(ResNet(8))
    rescaling = folded.get_layer("preprocessing")
    assert rescaling.scale == 1.0
    np.testing.assert_allclose(np.ravel(rescaling.offset), (-125.307, -122.95, -113.865), rtol=1e-6)
    assert fold(folded).get_layer("preprocessing").get_config() == rescaling.get_config()

    x = keras.Input((11, 9, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, padding="same", activation="relu")(layers.Rescaling(1 / 127.5, -1)(x)))
    assert_same_outputs(fold(model), model, random_images(11, 9))
    assert fold(model).layers[1].get_config()["offset"] == -127.5


def test_adapted_normalization_is_kept():
    normalization = layers.Normalization()
    normalization.adapt(random_images(11, 9) / np.float32(1))
    x = keras.Input((11, 9, 3))
    model = randomise(keras.Model(x, one_reader(normalization(x))))
    assert_same_outputs(fold(model), model, random_images(11, 9))


@pytest.mark.parametrize("dtype, within", [("mixed_bfloat16", 1.3), ("mixed_float16", 1.6)])
@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_half_precision_is_as_exact_as_before(dtype, within, activation):
    """Against float32, over four networks: dark and bright images, whose values are far from the mean that is
    subtracted. In float16 the folded kernels' own rounding shows."""
    arguments = dict(activation=activation, input_shape=(19, 23, 3), classifier_activation=None)
    noise = np.random.default_rng(0).integers(-20, 20, (64, 19, 23, 3))
    x = np.clip(np.linspace(0, 255, 64).reshape(-1, 1, 1, 1) + noise, 0, 255).astype("uint8")
    exact, model, ratios = ResNet(8, **arguments), ResNet(8, dtype=dtype, **arguments), []
    for seed in range(4):
        for layer in exact.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(layer.kernel_initializer.clone()(layer.kernel.shape))
        randomise(exact, seed)
        model.set_weights(exact.get_weights())
        folded = fold(model)
        assert {weight.dtype for weight in folded.weights} == {"float32"}
        assert folded.get_layer("stem_conv").compute_dtype == dtype.removeprefix("mixed_")
        # Older versions of Keras keep the casts of mixed precision in the graph, between preprocessing and convolution.
        absorbed = dtype == "mixed_bfloat16" and not any(map(is_cast, calls(model)))
        assert (folded.get_layer("preprocessing").scale == 1.0) == absorbed
        expected = run_keras(exact, x)
        before, after = (np.sqrt(np.mean((run_keras(each, x) - expected) ** 2)) for each in (model, folded))
        ratios.append(after / before)
    assert np.exp(np.mean(np.log(ratios))) < within


def test_the_original_is_not_modified(pixels):
    model = randomise(ResNet(8, activation="full_preactivation", shortcut="exclusive_gating"))
    weights, config = [w.tobytes() for w in model.get_weights()], model.get_config()
    folded = fold(model)
    assert [w.tobytes() for w in model.get_weights()] == weights and model.get_config() == config
    expected = run_keras(folded, pixels)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(pixels, np.arange(8))
    np.testing.assert_array_equal(run_keras(folded, pixels), expected)
    assert np.abs(run_keras(model, pixels) - expected).max() > 1e-3


def test_saved_and_opened_again(pixels, tmp_path):
    """With stock layers the file does not refer to this package."""
    model = randomise(ResNet(8, activation="full_preactivation", classifier_activation=None))
    for original in (model, keras_resv2.to_stock_layers(model)):
        folded = fold(original)
        assert_same_outputs(folded, model, pixels)
        folded.save(tmp_path / "folded.keras")
        again = keras.saving.load_model(tmp_path / "folded.keras")
        np.testing.assert_allclose(run_keras(again, pixels), run_keras(folded, pixels), atol=1e-6)
        assert ("keras_resv2" in again.to_json()) == (original is model)
        types = {type(layer) for layer in again.layers} - {keras_resv2.BatchNormalization}
        assert all(kind.__module__.startswith("keras.") for kind in types)


@pytest.mark.parametrize("model", [layers.Dense(3), keras.Sequential([layers.Dense(3)]), keras.Model()])
def test_only_functional_models_fold(model):
    with pytest.raises(ValueError, match="functional"):
        fold(model)


def test_graphs_deeper_than_pythons_recursion_limit():
    x = y = keras.Input((1,))
    for _ in range(1300):
        y = layers.ReLU()(y)
    with keras_resv2.models.graph.deep_graph():
        model = keras.Model(x, y)
    assert len(fold(model).layers) == 1301


OTHER_BACKEND = """
import sys, keras, numpy as np
import test_folding as t
for data_format in sys.argv[1:]:
    keras.config.set_image_data_format(data_format)
    x = t.random_images(19, 23)
    x = x if data_format == "channels_last" else x.transpose(0, 3, 1, 2)
    model = t.ResNet(8, activation="full_preactivation", input_shape=x.shape[1:], classifier_activation=None)
    folded = t.fold(t.randomise(model))
    t.assert_same_outputs(folded, model, x)
    assert len(t.normalizations(folded)) == 3 and folded.get_layer("preprocessing").scale == 1.0
"""


@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_other_backends(backend):
    """With channels_first, which TensorFlow supports only on GPUs."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    formats = ["channels_last"] if backend == "tensorflow" else ["channels_first"]
    command = [sys.executable, "-c", OTHER_BACKEND, *formats]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", ["resnet20-cifar10", "preact_resnet20-cifar10"])
def test_published_networks_make_the_same_mistakes(name, cifar10):
    with np.load(cifar10) as data:
        images, labels = data["x_test"][:2000], data["y_test"][:2000].ravel()
    model = keras_resv2.from_pretrained(name)
    plain, folded = (find_mistakes(each, slices(images, labels, 500)) for each in (model, fold(model)))
    assert abs(int(plain.sum()) - int(folded.sum())) <= 1
    assert 50 < plain.sum() < 300


@pytest.mark.parametrize("activation", ["full_preactivation", "relu_only_preactivation", "original"])
@pytest.mark.parametrize("shortcut", ["identity", "none"])
def test_features_of_a_folded_network_are_those_of_the_network_or_refused(activation, shortcut, pixels):
    """Pre-activation: the first BN is part of the stem, and without additions each BN of the layer before it."""
    model = randomise(ResNet(8, activation=activation, shortcut=shortcut))
    folded, refused = fold(model), []
    for name in ("stem", "stage1", "stage2", "stage3", *(["head"] if activation != "original" else [])):
        expected = keras_resv2.features(model, [name]).predict(pixels, verbose=0)[name]
        try:
            found = keras_resv2.features(folded, [name]).predict(pixels, verbose=0)[name]
        except ValueError as error:
            assert "fold afterwards" in str(error)
            refused.append(name)
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        afterwards = fold(keras_resv2.features(model, [name])).predict(pixels, verbose=0)[name]
        np.testing.assert_allclose(afterwards, expected, atol=1e-4 * np.abs(expected).max())
    every = ["stem", "stage1", "stage2", "stage3"]
    assert refused == ([] if activation != "full_preactivation" else every if shortcut == "none" else ["stem"])
