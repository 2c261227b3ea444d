"""The package's batch normalization equals Keras' layer up to rounding on every backend, and converts back to it."""

import importlib
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from packaging.version import Version

import keras_resv2
from helpers.comparing import assert_same, randomised
from keras_resv2 import registration

BACKENDS = ("tensorflow", "torch", "jax")  # where the layer has a kernel of its own
KINDS = (keras.layers.BatchNormalization, keras_resv2.BatchNormalization)
# Of losses, weights after two steps, and outputs.
TOLERANCES = {"float32": 1e-5, "mixed_bfloat16": 3e-4, "mixed_float16": 3e-4}


def network(kind, dtype, trainable=True, **arguments):
    """A convolution, the layer and a sum of cubes: the convolution's gradient passes through the layer."""
    normalize = kind(momentum=0.9, epsilon=1e-5, dtype=dtype, name="bn", **arguments)
    x = keras.Input((5, 7, 3))
    y = normalize(keras.layers.Conv2D(6, 3, dtype=dtype, name="conv")(x))
    model = keras.Model(x, keras.layers.Lambda(lambda y: keras.ops.mean(keras.ops.cast(y, "float32") ** 3))(y))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0.05, 0.1, w.shape) for w in model.get_weights()])
    normalize.set_weights([np.linspace(0.5, 1.5, 6), np.linspace(-1, 1, 6), np.full(6, 0.3), np.full(6, 2.0)])
    normalize.trainable = trainable
    return model


def behaviour(kind, dtype):
    """Outputs in training and inference, and all weights after two steps of descent, free and frozen."""
    x = np.random.default_rng(1).normal(2, 3, (16, 5, 7, 3)).astype("float32")
    found = []
    for trainable in (True, False):
        model = network(kind, dtype, trainable)
        model.compile(keras.optimizers.SGD(0.01), loss=lambda y_true, y_pred: y_pred)
        found += [float(model.train_on_batch(x, np.zeros(16))) for _ in range(2)]
        found += [weight.tolist() for weight in model.get_weights()]
        found += [float(keras.ops.mean(model(x, training=training))) for training in (False, True)]
    return found


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_kerass_layer(backend, dtype):
    """Forward, backward through scale, offset and input, moving statistics; free and frozen."""
    if backend == keras.backend.backend():
        stock, ours = (behaviour(kind, dtype) for kind in KINDS)
    else:
        pytest.importorskip(backend)
        code = (
            f"import json, test_batch_norm as t; print(json.dumps([t.behaviour(kind, {dtype!r}) for kind in t.KINDS]))"
        )
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        stock, ours = json.loads(done.stdout.splitlines()[-1])
    start = network(KINDS[0], "float32").get_weights()
    assert not np.allclose(start[0], stock[2]), "the steps moved nothing"
    assert all(np.isfinite(value).all() for value in stock)
    for index, (expected, found) in enumerate(zip(stock, ours, strict=True)):
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=TOLERANCES[dtype] * scale, err_msg=f"value {index}")


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_keeps_its_statistics_in_fit(kind):
    model = network(kind, "float32", trainable=False)
    before = model.get_layer("bn").get_weights()
    model.compile("sgd", loss=lambda y_true, y_pred: y_pred)
    model.train_on_batch(np.ones((4, 5, 7, 3)), np.zeros(4))
    for old, new in zip(before, model.get_layer("bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("arguments", [{"scale": False}, {"center": False}, {"axis": 1}])
def test_features_that_the_kernels_do_not_support_use_keras_code(arguments):
    x = np.random.default_rng(1).normal(2, 3, (8, 6, 4, 6)).astype("float32")
    outputs = []
    for kind in KINDS:
        layer = kind(**arguments)
        outputs.append([keras.ops.convert_to_numpy(layer(x, training=t)) for t in (True, False)])
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)


def test_a_single_value_of_each_channel():
    """The last batch of an epoch may be one image, whose maps are one pixel; PyTorch's kernel refuses it."""
    x = np.arange(4.0, dtype="float32").reshape(1, 1, 1, 4)
    outputs = []
    for kind in KINDS:
        layer = kind()
        outputs.append([keras.ops.convert_to_numpy(layer(x, training=True)), *layer.get_weights()])
    for found, expected in zip(outputs[1], outputs[0], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_flat_inputs_and_masks():
    x, mask = np.random.default_rng(0).normal(size=(6, 4, 3)).astype("float32"), np.arange(24).reshape(6, 4) % 3 > 0
    outputs = [keras.ops.convert_to_numpy(kind()(x, training=True, mask=mask)) for kind in KINDS]
    np.testing.assert_array_equal(outputs[1], outputs[0])


@pytest.fixture
def residual():
    arguments = {"activation": "full_preactivation", "shortcut": "exclusive_gating(bias=0)"}
    return randomised(keras_resv2.ResNet(8, **arguments, classifier_activation=None))


def test_stock_layers_give_the_same_outputs_and_open_without_the_package(residual, pixels, tmp_path):
    stock = keras_resv2.to_stock_layers(residual)
    expected = residual.predict(pixels, verbose=0)
    assert_same(stock.predict(pixels, verbose=0), expected, within=1e-5)
    assert [layer.name for layer in stock.layers] == [layer.name for layer in residual.layers]
    stock.save(tmp_path / "stock.keras")
    code = (
        "import sys, keras, numpy as np; "
        "keras.saving.load_model(sys.argv[1]).predict(np.load(sys.argv[2]), verbose=0).tofile(sys.argv[3]); "
        "assert 'keras_resv2' not in sys.modules"
    )
    np.save(tmp_path / "pixels.npy", pixels)
    files = [tmp_path / name for name in ("stock.keras", "pixels.npy", "out")]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True, capture_output=True)
    assert_same(np.fromfile(files[2], "float32").reshape(8, 10), expected, within=1e-5)


def test_without_the_package_the_error_names_the_import(residual, tmp_path, monkeypatch):
    """Simulates that the package has not been imported: its classes are not registered. Older Keras imports them."""
    residual.save(tmp_path / "model.keras")
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    for name in [name for name in before if name.startswith("keras_resv2>")]:
        monkeypatch.delitem(registry, name)
    try:
        opened = keras.saving.load_model(tmp_path / "model.keras")
    except TypeError as error:
        assert re.search(r"Could not locate class 'BatchNormalization'.*import keras_resv2", str(error), re.DOTALL)
    else:
        assert Version(keras.__version__) < Version("3.15")
        assert type(opened.get_layer("stage1_unit1_bn1")) is keras_resv2.BatchNormalization
    registration.register()  # what the import does
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.get_layer("stage1_unit1_bn1")) is keras_resv2.BatchNormalization


def test_a_class_for_every_stand_in():
    for name, module in registration.CLASSES.items():
        found = getattr(importlib.import_module(module), name)
        assert keras.saving.get_registered_name(found) == f"keras_resv2>{name}"
    registered = [name for name in keras.saving.get_custom_objects() if name.startswith("keras_resv2>")]
    assert set(registered) == {f"keras_resv2>{name}" for name in registration.CLASSES}


def test_a_saved_model_opens_with_the_package_imported(residual, pixels, tmp_path):
    residual.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.get_layer("stage1_unit1_bn1")) is keras_resv2.BatchNormalization
    assert_same(again.predict(pixels, verbose=0), residual.predict(pixels, verbose=0), within=1e-6)


def test_only_functional_models_convert():
    with pytest.raises(ValueError, match="functional"):
        keras_resv2.to_stock_layers(keras.layers.Dense(3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_training_where_the_variables_are_half_precision_too(dtype):
    """Not the mixed policies: moving statistics have the policy's type."""
    layer = keras_resv2.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
    x = np.random.default_rng(0).normal(300, 300, (8, 6, 6, 4)).astype("float32")  # variance beyond float16
    model = keras.Sequential([keras.Input((6, 6, 4)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, np.zeros_like(x), batch_size=8, verbose=0)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    for moving, start, batch in ((layer.moving_mean, 0, mean), (layer.moving_variance, 1, variance)):
        assert moving.dtype == dtype
        found = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(moving, "float32")))
        np.testing.assert_allclose(found, 0.9 * start + 0.1 * batch, rtol=2e-2)


def test_a_network_trains_in_float16():
    """With statistics, gradients and weights in half precision: every weight changes, and none is NaN."""
    model = keras_resv2.ResNet(8, input_shape=(8, 8, 3), dtype="float16")
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    model.fit(rng.integers(0, 256, (8, 8, 8, 3)).astype("float32"), rng.integers(0, 10, 8), epochs=2, verbose=0)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert all(np.isfinite(new).all() for new in after)
    assert np.mean([np.any(new != old) for new, old in zip(after, before, strict=True)]) > 0.9
