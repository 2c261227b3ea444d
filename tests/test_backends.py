"""The same weights give the same outputs on every backend, and importing the package loads none of them."""

import functools
import importlib.util
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import assert_same, randomised
from keras_resv2.storage.weight_file import save_weights

OTHER_BACKENDS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]


def run(code, *arguments, backend=None):
    environment = {**os.environ, **({"KERAS_BACKEND": backend} if backend else {})}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def needs(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


PREDICT = """
import sys, numpy as np, keras_resv2
pixels, *files = sys.argv[1:]
for name, weights, out in zip(files[::3], files[1::3], files[2::3]):
    model = keras_resv2.build(name, weights=weights, classifier_activation=None)
    np.save(out, model.predict(np.load(pixels), verbose=0))
"""


@pytest.fixture(scope="module")
def outputs_here(tmp_path_factory):
    """Folder of images and weights, and outputs of the networks on the backend of the tests."""
    folder = tmp_path_factory.mktemp("outputs")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")
    np.save(folder / "pixels.npy", pixels)
    outputs = {}
    for name in ("resnet20", "preact_resnet20"):
        model = randomised(keras_resv2.build(name, classifier_activation=None))
        save_weights(model, folder / f"{name}.h5")
        outputs[name] = model.predict(pixels, verbose=0)
    return folder, outputs


@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_same_weights_same_outputs(backend, outputs_here, tmp_path):
    needs(backend)
    folder, outputs = outputs_here
    files = [(name, folder / f"{name}.h5", tmp_path / f"{name}.npy") for name in outputs]
    run(PREDICT, folder / "pixels.npy", *itertools.chain(*files), backend=backend)
    for name, _, out in files:
        assert_same(np.load(out), outputs[name])


TRAIN = """
import itertools, json, sys
import keras, numpy as np, keras_resv2
from train.data.device_data import DeviceData
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.steps import make_steps

dtype, weights = sys.argv[1:]
keras.config.set_dtype_policy(dtype)
model = keras_resv2.ResNet(8, weights=weights, classifier_activation=None)
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (100, 32, 32, 3), dtype="uint8"), np.arange(100) % 10
recipe = RECIPES["fast"].with_values(["batch_size=32", f"dtype={dtype}"])
source = DeviceData(images, labels, recipe, 0)
steps = make_steps(model, make_optimizer(recipe, model.trainable_variables), source)
losses, corrects = steps.run([0.02] * 5, list(itertools.islice(source.batches(0), 5)))
print(json.dumps([np.asarray(losses)[:5].tolist(), np.asarray(corrects)[:5].tolist()]))
"""


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory):
    """By dtype: a weight file, and the results of steps from it on the backend of the tests."""
    path = tmp_path_factory.mktemp("trained") / "w.h5"
    save_weights(keras_resv2.ResNet(8), path)
    return functools.cache(lambda dtype: (path, json.loads(run(TRAIN, dtype, path))))


@pytest.mark.parametrize("backend", OTHER_BACKENDS)
@pytest.mark.parametrize("dtype, within", [("float32", 2e-3), ("mixed_float16", 1e-2)])
def test_same_training_steps(backend, dtype, within, trained_here):
    """Losses of five steps from the same weights: images, gradients, momentum, weight decay all agree."""
    needs(backend)
    weights, ours = trained_here(dtype)
    theirs = json.loads(run(TRAIN, dtype, weights, backend=backend))
    np.testing.assert_allclose(theirs[0], ours[0], rtol=within)
    assert np.ptp(ours[0]) > 10 * within * max(ours[0])  # the steps move it
    assert np.abs(np.subtract(theirs[1], ours[1])).max() <= 2 / 32


LOADED = """
import sys, json
BACKENDS = ("tensorflow", "jax", "torch", "keras")
import keras_resv2
light = [m for m in BACKENDS if m in sys.modules]
keras_resv2.list_pretrained()
cards = [m for m in BACKENDS if m in sys.modules]
keras_resv2.ResNet20()
print(json.dumps([light, cards, [m for m in BACKENDS[:3] if m in sys.modules]]))
"""


def test_the_package_imports_no_backend_itself():
    """Importing the package and reading cards does not load Keras; building loads only Keras and its backend."""
    needs("jax")
    light, cards, building = json.loads(run(LOADED, backend="jax"))
    assert light == [] and cards == []
    assert building == ["jax"]


ANALYSE = """
import json, sys, numpy as np, keras_resv2
from keras_resv2 import analysis
weights, pixels = sys.argv[1:]
images, labels = np.load(pixels), np.arange(8)
model = keras_resv2.ResNet(14, activation="full_preactivation", shortcut="shortcut_only_gating", weights=weights)
lesions = analysis.delete_random(model, images, labels, counts=[1, 2, 4], draws=2)
study = analysis.propagate(model, images, labels, training=True)
paths = analysis.path_gradients(model, images, labels, lengths=[0, 2, 6], samples=2)
print(json.dumps([lesions.errors.tolist(), study.straight_norm.tolist(), study.factor.tolist(),
                  study.gradient_through_branch.tolist(), paths.norms.tolist()]))
"""


@pytest.fixture(scope="module")
def analysed_here(tmp_path_factory):
    """The files that the analysis needs, and its results on the backend of the tests."""
    folder = tmp_path_factory.mktemp("analysed")
    model = keras_resv2.ResNet(14, activation="full_preactivation", shortcut="shortcut_only_gating")
    save_weights(model, folder / "w.h5")
    np.save(folder / "pixels.npy", np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8"))
    files = folder / "w.h5", folder / "pixels.npy"
    return files, json.loads(run(ANALYSE, *files).splitlines()[-1])


@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_same_analysis(backend, analysed_here):
    """Lesions, gradients unit by unit with the batch's statistics, and along the same paths."""
    needs(backend)
    files, mine = analysed_here
    theirs = json.loads(run(ANALYSE, *files, backend=backend).splitlines()[-1])
    for ours, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=2e-3)
