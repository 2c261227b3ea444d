"""A rolled network equals the unrolled one: weights, names, outputs, gradients, moving statistics, files."""

import dataclasses
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import randomised, run_keras
from keras_resv2.models.scan import RolledUnits
from keras_resv2.models.shortcuts import Shortcut
from keras_resv2.models.weights import model_arrays
from keras_resv2.storage.weight_file import load_weights, read_weights, save_weights

VARIANTS = {
    "original": {"depth": 20},
    "full_preactivation": {"depth": 20, "activation": "full_preactivation"},
    "bottleneck": {"depth": 29, "branch": "bottleneck", "activation": "full_preactivation"},
    "gates": {"depth": 20, "shortcut": "exclusive_gating(bias=0)"},
    "bfloat16": {"depth": 20, "dtype": "mixed_bfloat16"},
}
EAGERLY = keras.backend.backend() != "jax"  # which compiles each operation by itself then


def build(variant, **more):
    return keras_resv2.ResNet(**VARIANTS[variant], input_shape=(16, 16, 3), **more)


def differences(variant, rematerialize, steps=2, eagerly=EAGERLY):
    """Of the rolled from the unrolled network: logits, losses of a few steps, and all weights after them.

    Beside the first, how far apart the logits of the images are; beside the last, how far the kernels moved. `eagerly`
    is whether the rolled network trains so.
    """
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (8, 16, 16, 3), dtype="uint8"), np.arange(8) % 10
    start = model_arrays(randomised(build(variant, classifier_activation=None)))
    start = {name: 2 * value if name.endswith("/gamma") else value for name, value in start.items()}  # about 1
    plain, rolled = (
        build(variant, weights=start, classifier_activation=None, **form)
        for form in ({}, {"rolled": True, "rematerialize": rematerialize})
    )
    assert any(isinstance(layer, RolledUnits) for layer in rolled.layers)
    assert rolled.count_params() == plain.count_params()
    logits = [run_keras(model, pixels) for model in (plain, rolled)]
    losses = []
    for model in (plain, rolled):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        run_eagerly = eagerly if model is rolled else EAGERLY
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, run_eagerly=run_eagerly)
        losses.append([float(model.train_on_batch(pixels, labels)) for _ in range(steps)])
    ends = [model_arrays(model) for model in (plain, rolled)]
    assert set(ends[0]) == set(ends[1])
    apart = max(np.abs(ends[0][name] - ends[1][name]).max() for name in start)
    moved = max(np.abs(ends[0][name] - start[name]).max() for name in start if name.endswith("/kernel"))
    found = np.abs(np.subtract(*logits)).max(), np.ptp(logits[0], axis=0).max()
    return [float(x) for x in (*found, np.abs(np.subtract(*losses)).max(), apart, moved)]


def check(found):
    logits, spread, losses, apart, moved = found
    assert spread > 0.01 and moved > 0.003, f"images or steps make no difference: {found}"
    assert logits < 1e-3 * spread and losses < 1e-3 and apart < 1e-3, found


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_unrolled_network(variant):
    check(differences(variant, rematerialize=False, eagerly=EAGERLY and variant != "full_preactivation"))


needs_remat = pytest.mark.skipif(not hasattr(keras, "remat"), reason="this version of Keras has no keras.remat")


@needs_remat
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_rematerialized_on_every_backend(backend):
    if backend == keras.backend.backend():
        return check(differences("gates", rematerialize=True))
    pytest.importorskip(backend)
    code = "import json, test_rolled as t; print(json.dumps(t.differences('gates', True)))"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    check(json.loads(done.stdout.splitlines()[-1]))


def test_weight_files_go_both_ways(tmp_path):
    plain, rolled = build("full_preactivation"), build("full_preactivation", rolled=True)
    save_weights(rolled, tmp_path / "rolled.h5")
    load_weights(plain, tmp_path / "rolled.h5")
    stack = rolled.get_layer("stage2_unit2_to_3").get_weights()[0]
    np.testing.assert_array_equal(plain.get_layer("stage2_unit3_preact_bn").get_weights()[0], stack[1])
    plain.set_weights([weight + 1 for weight in plain.get_weights()])
    save_weights(plain, tmp_path / "plain.h5")
    load_weights(rolled, tmp_path / "plain.h5")
    for name, value in read_weights(tmp_path / "plain.h5").items():
        np.testing.assert_array_equal(model_arrays(rolled)[name], value)


def test_units_start_from_numbers_of_their_own():
    kernels = build("original", rolled=True).get_layer("stage1_unit2_to_3").get_weights()[0]
    assert kernels.shape == (2, 3, 3, 16, 16)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    assert abs(kernels.std() / np.sqrt(2 / (9 * 16)) - 1) < 0.05  # of one unit's fan, not of the stack's


def test_dropout_differs_between_units_and_calls(pixels):
    model = keras_resv2.ResNet(20, shortcut="dropout", rolled=True)
    first, second = (keras.ops.convert_to_numpy(model(pixels, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-6
    states = [w for w in model.get_layer("stage1_unit2_to_3").variables if w.shape == (2, 2)]
    seeds = keras.ops.convert_to_numpy(states[0])
    assert (seeds[0] != seeds[1]).any()


def test_frozen_units_keep_their_statistics(pixels):
    model = build("full_preactivation", rolled=True)
    layer = model.get_layer("stage1_unit2_to_3")
    layer.trainable = False
    before = layer.get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    model.train_on_batch(pixels[:, :16, :16], np.arange(8))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_trainable_reaches_the_units(pixels):
    """As in the network that is not rolled: `trainable` sets all layers inside."""
    plain = build("full_preactivation")
    rolled = keras_resv2.unfreeze(build("full_preactivation", rolled=True, weights=model_arrays(plain)))
    moved = []
    for model in (plain, keras_resv2.freeze(rolled)):
        model.trainable = False
        assert not model.trainable_variables
        model.trainable = True
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
        before = model_arrays(model)
        model.train_on_batch(pixels[:, :16, :16], np.arange(8))
        after = model_arrays(model)
        moved.append({name for name in before if np.abs(after[name] - before[name]).max() > 0})
    assert "stage1_unit2_bn1/moving_mean" in moved[0] and moved[1] == moved[0]


def test_files_whose_frozen_units_contain_layers_that_train(pixels):
    """As saved before `trainable` reached them; and a rolled network frozen in two steps."""
    model = build("full_preactivation", rolled=True)
    layer = model.get_layer("stage1_unit2_to_3")
    config = {**layer.get_config(), "trainable": False}
    assert not RolledUnits.from_config(config).unit.trainable_variables
    keras_resv2.unfreeze(keras_resv2.unfreeze(model), since="stage3")
    assert not [v.path for v in model.trainable_variables if v.path.endswith(("gamma", "beta"))]


def test_dropout_of_frozen_units_is_that_of_keras(pixels):
    """Which drops in training, whether its layer is trainable or not."""
    model = keras_resv2.freeze(keras_resv2.ResNet(20, shortcut="dropout", rolled=True))
    layer = model.get_layer("stage1_unit2_to_3")
    x = np.ones((1, 32, 32, 16), "float32")
    first, second = (keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-6


@dataclasses.dataclass(frozen=True)
class Misnamed(Shortcut):
    """A shortcut whose layer has the same name in all units."""

    name = "misnamed"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return keras.layers.Conv2D(shortcut.shape[-1], 1, name="own")(shortcut), branch


@dataclasses.dataclass(frozen=True)
class Filtered(Shortcut):
    """A shortcut of the user's own, whose layer names its weights and initializers in ways of its own."""

    named: bool = True
    name = "filtered"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        layer = keras.layers.DepthwiseConv2D(3, padding="same", **{"name": f"{name}_shortcut_dw"} if self.named else {})
        return layer(shortcut), branch


def test_shortcuts_with_layers_of_any_kind(pixels):
    rolled = keras_resv2.ResNet(20, shortcut=Filtered(), rolled=True, classifier_activation=None)
    arrays = model_arrays(rolled)
    kernels = [arrays[f"stage1_unit{i}_shortcut_dw/kernel"] for i in (2, 3)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    plain = keras_resv2.ResNet(20, shortcut=Filtered(), weights=arrays, classifier_activation=None)
    np.testing.assert_allclose(run_keras(rolled, pixels), run_keras(plain, pixels), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="names of its layers must start with `name`"):
        keras_resv2.ResNet(20, shortcut=Filtered(named=False), rolled=True)
    with pytest.raises(ValueError, match="names of its layers must start with `name`"):
        keras_resv2.ResNet(20, shortcut=Misnamed(), rolled=True)


@needs_remat
def test_saved_and_opened(tmp_path, pixels):
    model = build("gates", rolled=True, rematerialize=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(pixels[:, :16, :16], verbose=0)
    np.testing.assert_array_equal(again.predict(pixels[:, :16, :16], verbose=0), expected)


def test_a_network_whose_batch_normalization_is_frozen_is_saved_and_opened(tmp_path, pixels):
    """As left by `fine_tune`; freezing does not change the order of the weights in the file."""
    model = keras_resv2.unfreeze(build("original", rolled=True))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    names = [[v.path for v in m.trainable_variables] for m in (model, again)]
    assert names[0] == names[1] and not any("gamma" in name for name in names[0])
    expected = model.predict(pixels[:, :16, :16], verbose=0)
    np.testing.assert_array_equal(again.predict(pixels[:, :16, :16], verbose=0), expected)
    folded = keras_resv2.fold(model).predict(pixels[:, :16, :16], verbose=0)
    np.testing.assert_allclose(folded, expected, atol=1e-4)
    trained = keras_resv2.unfreeze(again, batch_norm=True)
    assert any("gamma" in v.path for v in trained.trainable_variables)


def test_it_opens_where_the_package_was_imported(tmp_path):
    """Imported before Keras; in the tests above it is imported after it."""
    build("original", rolled=True).save(tmp_path / "model.keras")
    code = (
        "import sys, keras_resv2; assert 'keras' not in sys.modules; import keras; keras.saving.load_model(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.keras")], check=True, capture_output=True)


def test_operations_are_counted():
    counts = [keras_resv2.count_multiply_adds(keras_resv2.ResNet56(rolled=rolled)) for rolled in (False, True)]
    assert counts[0] == counts[1]


def test_loops_are_no_stock_layers():
    with pytest.raises(ValueError, match="is rolled"):
        keras_resv2.to_stock_layers(build("original", rolled=True))


def test_rematerializing_is_for_rolled_networks():
    with pytest.raises(ValueError, match="rolled=True"):
        keras_resv2.ResNet20(rematerialize=True)
