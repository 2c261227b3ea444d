"""Training with skipped units: which ones, what is computed, what does not change, on all backends."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from helpers.paths import ROOT
from keras_resv2.models.weights import model_arrays
from keras_resv2.resnet import ResNet
from keras_resv2.storage.weight_file import read_weights
from train import loop, run_state
from train.data.device_data import DeviceData
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.steps import make_steps
from train.stochastic_depth import SwitchedNetwork, UnitSampler

FAST = RECIPES["fast"].with_values([], steps=1000, batch_size=8, dtype="float32")


def test_as_many_units_as_asked_for_and_other_ones_each_time():
    drawn = np.array([UnitSampler(FAST.with_values(["units_per_batch=4"]), 9, 0).draw(step) for step in range(200)])
    assert set(drawn.ravel()) == {0, 1} and set(drawn.sum(1)) == {4}
    assert abs(drawn.mean(0) - 4 / 9).max() < 4 * np.sqrt(4 / 9 * 5 / 9 / 200)  # four standard deviations


def test_the_number_changes_over_the_run():
    sampler = UnitSampler(FAST.with_values(["units_per_batch=((0, 2), (0.5, 5), (0.75, 9))"]), 9, seed=1)
    assert [int(sampler.draw(step).sum()) for step in (0, 499, 500, 749, 750, 999)] == [2, 2, 5, 5, 9, 9]


def test_survival_falls_linearly_and_keeps_the_expectation():
    """Huang et al. 2016, eq. 4: p_l = 1 - l / L * (1 - p_L)."""
    sampler = UnitSampler(FAST.with_values(["survival=0.5"]), 4, seed=0)
    drawn = np.array([sampler.draw(step) for step in range(2000)])
    expected = np.array([0.875, 0.75, 0.625, 0.5])
    assert abs((drawn > 0).mean(0) - expected).max() < 0.045  # four standard deviations
    np.testing.assert_allclose(drawn.max(0), 1 / expected, rtol=1e-6)


def test_the_units_of_a_step_do_not_depend_on_previous_steps():
    one, two, other = (UnitSampler(FAST.with_values(["units_per_batch=4"]), 9, seed) for seed in (0, 0, 1))
    for step in range(5):
        one.draw(step)
    assert np.array_equal(one.draw(7), two.draw(7))
    assert any(not np.array_equal(two.draw(step), other.draw(step)) for step in range(10))


def multiplied(network, switches, images):
    """The network in training, its branches multiplied by the switches: every one of them is computed."""
    switches = dict(zip([f"stage{s}_unit{u}_add" for s in (1, 2, 3) for u in (1, 2, 3)], switches, strict=True))

    def call(layer, *arguments, **options):
        if layer.name in switches:
            shortcut, branch = arguments[0]
            return layer([shortcut, branch * float(switches[layer.name])], **options)
        return layer(*arguments, **options)

    copy = keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
    return keras.ops.convert_to_numpy(copy(images, training=True))


@pytest.mark.parametrize("arguments", [
    {"activation": "original"},
    {"activation": "full_preactivation"},
    {"activation": "full_preactivation", "shortcut": "exclusive_gating(bias=-1)"},
    {"activation": "bn_after_addition", "shortcut": "conv1x1"},
], ids=str)  # fmt: skip
def test_skipped_units_equal_units_multiplied_by_zero(arguments, pixels):
    network = ResNet(20, classifier_activation=None, **arguments)
    switched = SwitchedNetwork(network, scaled=True)
    for switches in ([1, 0, 1, 0, 0, 1, 1, 1, 0], [1.25, 0, 0, 2, 0, 0, 0, 0, 1]):
        switched.switches.assign(switches)
        found = keras.ops.convert_to_numpy(switched(pixels, training=True))
        np.testing.assert_allclose(found, multiplied(network, switches, pixels), rtol=1e-4, atol=1e-4)
    whole = keras.ops.convert_to_numpy(switched(pixels))  # inference runs every unit, whatever the switches
    np.testing.assert_allclose(whole, keras.ops.convert_to_numpy(network(pixels)), rtol=1e-4, atol=1e-4)


STEPS = """
import itertools, json, sys
import keras
import numpy as np
from keras_resv2.resnet import ResNet
from train.data.device_data import DeviceData
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.steps import make_steps
from train.stochastic_depth import SwitchedNetwork

keras.utils.set_random_seed(0)
recipe = RECIPES["paper"].with_values(["flip=random"], steps=10, batch_size=8)
images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
source = DeviceData(images, np.arange(40) % 10, recipe, 0)
network = ResNet(8, activation="full_preactivation", classifier_activation=None)
names = sorted(f"{layer.name}/{v.name}" for layer in network.layers for v in layer.weights)
rng = np.random.default_rng(1)
values = {}
for layer in sorted(network.layers, key=lambda layer: layer.name):
    for v in layer.weights:
        values[f"{layer.name}/{v.name}"] = v
for name in names:
    v = values[name]
    v.assign(abs(rng.normal(0.1, 0.1, v.shape)) if "variance" in name else rng.normal(0, 0.1, v.shape))
before = {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in values.items()}
switched = SwitchedNetwork(network)
steps = make_steps(switched, make_optimizer(recipe, switched.trainable_variables), source)
losses, _ = steps.run([0.0, 0.1], list(itertools.islice(source.batches(0), 2)), [[1, 0, 1], [1, 0, 1]])
steps.sync()
moved = {name: float(abs(np.array(keras.ops.convert_to_numpy(v)) - before[name]).max()) for name, v in values.items()}
print(json.dumps([np.asarray(losses)[:2].tolist(), moved]))
"""


@pytest.fixture(scope="module")
def two_steps():
    """Losses and the change of each weight after two steps without the second unit, by backend."""
    found = {}
    for backend in ("tensorflow", "jax", "torch"):
        if importlib.util.find_spec(backend) is None:
            continue
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        found[backend] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_skipped_unit_keeps_its_statistics(two_steps, backend):
    """Its kernels are only decayed; those of the other units are trained."""
    if backend not in two_steps:
        pytest.skip(f"{backend} is not installed")
    _, moved = two_steps[backend]
    assert moved["stage2_unit1_bn1/moving_mean"] == 0 and moved["stage2_unit1_preact_bn/moving_variance"] == 0
    assert moved["stage1_unit1_bn1/moving_mean"] > 1e-3 and moved["stage3_unit1_bn1/moving_variance"] > 1e-6
    # L2 1e-4 times the rate 0.1, and no gradient: at most a hundred-thousandth of a weight of at most 0.5.
    assert 0 < moved["stage2_unit1_conv1/kernel"] < 1e-5 < 1e-4 < moved["stage3_unit1_conv1/kernel"]


def test_backends_agree(two_steps):
    losses = [losses for losses, _ in two_steps.values()]
    if len(losses) < 2:
        pytest.skip("one backend alone is installed")
    np.testing.assert_allclose(losses, [losses[0]] * len(losses), rtol=2e-4)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, digits):
    recipe = FAST.with_values(["units_per_batch=((0, 2), (0.5, 3))"], steps=12)

    def run(folder, stop=lambda done: False):
        keras.utils.set_random_seed(0)
        model = SwitchedNetwork(ResNet(8, activation="full_preactivation", classifier_activation=None))
        source, units = DeviceData(*digits[0], recipe, 0), UnitSampler(recipe, 3, seed=0)
        folder.mkdir(exist_ok=True)
        done = []
        loop.train(
            model, source, lambda network: {"test_error": 50.0}, recipe, folder, units=units, checkpoint_seconds=0,
            stop=lambda: stop(done), callbacks=[lambda progress, *_: done.append(progress.step)],
        )  # fmt: skip

    run(tmp_path / "whole")
    with pytest.raises(loop.Stopped):
        run(tmp_path / "cut", stop=lambda done: done[-1:] >= [1])
    assert 1 < max(int(path.stem[-8:]) for path in (tmp_path / "cut").glob("checkpoint-*.npz")) < 12
    run(tmp_path / "cut")
    whole, cut = (read_weights(tmp_path / name / "weights.h5") for name in ("whole", "cut"))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole | cut)


@pytest.mark.parametrize(
    "counts, measured",
    [("2", True), ("((0, 2), (0.5, 3))", False), ("((0, 2), (0.75, 3))", True), ("((0, 2), (1, 3))", True)],
)
def test_the_whole_network_has_its_own_statistics(counts, measured, tmp_path, digits, monkeypatch):
    """Those of all units on training images, unless the last batches, here 4, trained all units."""
    monkeypatch.setattr(run_state, "RECENT", 4)
    recipe = FAST.with_values([f"units_per_batch={counts}"], steps=8)
    keras.utils.set_random_seed(0)
    network = ResNet(8, classifier_activation=None)
    images, labels = digits[0]
    source, units = DeviceData(images[:128], labels[:128], recipe, 0), UnitSampler(recipe, 3, seed=0)
    evaluated = []

    def measure(predictor):
        evaluated.append(predictor.predict_on_batch(images[:4]))
        return {"test_error": 50.0}

    loop.train(SwitchedNetwork(network), source, measure, recipe, tmp_path, units=units)
    saved = read_weights(tmp_path / "weights.h5")
    again = ResNet(8, classifier_activation=None, weights=saved)
    np.testing.assert_allclose(again.predict(images[:4], verbose=0), evaluated[-1], rtol=1e-3, atol=1e-3)
    for layer in again.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    again(images[:128], training=True)  # all images in one batch, as they are measured
    found = model_arrays(again)
    close = [np.allclose(found[name], saved[name], rtol=1e-3, atol=1e-3) for name in saved if "/moving_" in name]
    assert all(close) == measured


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend shows it")
def test_skipped_branches_are_not_computed(pixels):
    """The loss and the gradients are those of the plain network to the bit, although the branch has NaN weights.

    The rectifiers of some processors turn NaN into 0, so the control compares, and does not look for NaN.
    """

    def one_step(units, value=None):
        keras.utils.set_random_seed(0)
        network = ResNet(8, activation="full_preactivation", classifier_activation=None)
        kernel = network.get_layer("stage2_unit1_conv1").kernel
        if value is not None:
            kernel.assign(np.full(kernel.shape, value))
        switched = SwitchedNetwork(network)
        source = DeviceData(pixels, np.arange(8), FAST, 0)
        recipe = FAST.with_values([], weight_decay=0.0)
        steps = make_steps(switched, make_optimizer(recipe, switched.trainable_variables), source)
        loss = steps.run([0.1], list(itertools.islice(source.batches(0), 1)), [units])[0]
        return np.append(loss, network.get_layer("stage3_unit1_conv1").kernel)

    np.testing.assert_array_equal(one_step([1, 0, 1], np.nan), one_step([1, 0, 1]))  # 0 times NaN is NaN
    assert not np.array_equal(one_step([1, 1, 1], np.nan), one_step([1, 1, 1]))


@pytest.mark.parametrize("text, says", [
    ("units_per_batch=0", "a number from 1"),
    ("units_per_batch=((0.5, 3),)", "a number from 1"),
    ("units_per_batch=((0, 3), (0.5, 2.5))", "a number from 1"),
    ("units_per_batch=True", "the current value is None"),
    ("survival=0", "above 0 and at most 1"),
    ("survival=1.5", "above 0 and at most 1"),
    ("survival=many", "the current value is None"),
])  # fmt: skip
def test_values_that_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        FAST.with_values([text])


def test_both_ways_at_once_are_refused():
    with pytest.raises(ValueError, match="use only one"):
        FAST.with_values(["units_per_batch=3", "survival=0.5"])


@pytest.mark.parametrize("make, says", [
    (lambda: ResNet(8, shortcut="none"), "no units with shortcuts"),
    (lambda: ResNet(26, rolled=True), "in loops"),
])  # fmt: skip
def test_networks_without_units_to_skip(make, says):
    with pytest.raises(ValueError, match=says):
        SwitchedNetwork(make())


def test_more_units_than_there_are():
    with pytest.raises(ValueError, match="must be from 1 to 3"):
        UnitSampler(FAST.with_values(["units_per_batch=4"]), 3, seed=0)
