"""Training with all recipe features: the same steps on every backend, resumed bit for bit, and recorded."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT
from helpers.published import publish
from keras_resv2.data import DATASETS
from train.config import RunConfig
from train.data.device_data import DeviceData
from train.data.inputs import Input
from train.distillation import open_teacher, open_teachers, pinned
from train.initial_weights import find_weights
from train.recipes import RECIPES
from train.run_files import check_teacher, kept_version

HERE = keras.backend.backend()
CIFAR10 = DATASETS["cifar10"].class_names

TRAIN = """
import csv, json, pathlib, sys
import keras, numpy as np
from keras_resv2.models.batch_norm import BatchNormalization
from keras_resv2.storage.weight_file import read_weights
from train import loop
from train.data.device_data import DeviceData
from train.data.mixing import MixedBatches
from train.data.resizing import at_size
from train.devices import make_deterministic
from train.distillation import DistilledBatches
from train.recipes import RECIPES

make_deterministic()
folder = sys.argv[1]
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (60, 16, 16, 3), dtype="uint8"), np.arange(60) % 10
recipe = RECIPES["long"].with_values(
    ["steps=8", "batch_size=12", "dtype=float32", "cutout=6", "mixup=1.0", "label_smoothing=0.1", "teacher=none",
     "teacher_weight=0.5", "image_size=((0, 12), (0.5, 16))", "schedule=((0, 0.1), (1, 0.0))",
     "average_start=0.1", "average_decay=0.7"])

def network(seed, size=None):
    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(x)
    for i in range(2):
        x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False, name=f"conv{i}")(x)
        x = keras.layers.ReLU()(BatchNormalization(momentum=0.9, name=f"bn{i}")(x))
    model = keras.Model(inputs, keras.layers.Dense(10, name="dense")(keras.layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(seed)
    for v in model.trainable_variables:
        if v.name == "kernel":
            v.assign(rng.normal(0, np.sqrt(2 / np.prod(v.shape[:-1])), v.shape))
    return model

teacher = network(7, 16)
teacher.trainable = False
source = DistilledBatches(MixedBatches(DeviceData(images, labels, recipe, 0), recipe, 0), teacher)

def run(out, seed, stop_after=99):
    out = pathlib.Path(folder, out)
    out.mkdir(exist_ok=True)
    model, done, measured = network(seed), [0], []
    def measure(steps):
        measured.append(np.array(steps.predict_on_batch(images)))
        return {"test_error": 0.0}
    try:
        loop.train(model, source, measure, recipe, out, checkpoint_seconds=0, evaluate_every=1,
                   callbacks=[lambda progress, *_: done.append(progress.step)], stop=lambda: done[-1] >= stop_after)
    except loop.Stopped:
        return done[-1]
    rows = [{**row, "seconds": 0} for row in csv.DictReader((out / "history.csv").open())]
    return model, measured[-1], read_weights(out / "weights.h5"), rows

model, measured, weights, rows = run("whole", seed=0)
for stop_after in (1, 4):  # the size of the images changes after four steps
    out = f"cut{stop_after}"
    stopped = run(out, seed=0, stop_after=stop_after)
    assert stop_after < stopped < 8, stopped
    assert list(pathlib.Path(folder, out).glob("checkpoint-*.npz"))
    _, measured_again, weights_again, rows_again = run(out, seed=1)  # other initial weights
    assert weights.keys() == weights_again.keys() and len(weights) == 12, weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, weights_again[name], err_msg=name)
    np.testing.assert_array_equal(measured, measured_again)
    assert rows == rows_again and len(rows) == 2, (rows, rows_again)
assert np.abs(model.predict(images, verbose=0) - measured).max() > 1e-3  # not the weights of the last step
for variable in model.weights:  # what was measured is what is kept
    variable.assign(weights["/".join(variable.path.split("/")[-2:])])
np.testing.assert_allclose(model.predict(images, verbose=0), measured, atol=1e-4)
seen, _ = at_size(source, 12).augment([keras.ops.convert_to_tensor(a) for a in source.device_data],
                         *map(keras.ops.convert_to_tensor, next(source.batches(3))))
pixels = np.asarray(keras.ops.convert_to_numpy(seen)).ravel()[::97].tolist()
print(json.dumps([[float(row["train_loss"]) for row in rows], measured.tolist(), pixels]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By backend: losses of two epochs, logits of the averaged network, and pixels of a step."""

    @functools.cache
    def train(backend):
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, tmp_path_factory.mktemp(backend)],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return train


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(backend, trained):
    """Its file contains the averaged weights, which were evaluated: the assertions are in the program."""
    losses, _, _ = trained(backend)
    assert len(losses) == 2 and losses[0] != losses[1]


@pytest.mark.parametrize("backend", [name for name in ("tensorflow", "jax", "torch") if name != HERE])
def test_same_steps_on_every_backend(backend, trained):
    """Images are identical; losses and outputs of averaged weights are equal up to rounding."""
    (losses, logits, pixels), (losses_here, logits_here, pixels_here) = trained(backend), trained(HERE)
    assert pixels == pixels_here and len(set(pixels)) > 20
    np.testing.assert_allclose(losses, losses_here, rtol=1e-3)
    np.testing.assert_allclose(logits, logits_here, atol=5e-3)
    assert np.ptp(logits_here, axis=0).max() > 0.1


def an_input(class_names=CIFAR10, size=32):
    images = np.zeros((4, size, size, 3), "uint8")
    source = DeviceData(images, np.arange(4), RECIPES["paper"], 0)
    pixels = DATASETS["cifar10"].pixels
    return Input(source, lambda network: {}, class_names, (size, size, 3), pixels, 4, 4, {"train": "", "test": ""})


def test_teachers_by_name(tmp_path, monkeypatch):
    """A pretrained name with its version, a weight folder, a run directory."""
    monkeypatch.setattr("keras_resv2.storage.local.weight_folders", lambda: [tmp_path / "zoo"])
    for version in (1, 2):
        card, _ = publish(tmp_path / "zoo", version=version)
    assert pinned("resnet20-cifar10") == "resnet20-cifar10@2" and pinned("resnet20-cifar10@1") == "resnet20-cifar10@1"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    model, facts = open_teacher("resnet20-cifar10@2", an_input())
    assert facts == {"name": "resnet20-cifar10", "version": 2, "sha256": card.sha256} and not model.trainable_variables
    folder = tmp_path / "zoo/resnet20-cifar10/2"
    settings = {"model": "resnet20", "arguments": {}, "dataset": "cifar10"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/weights.h5").write_bytes((folder / "weights.h5").read_bytes())
    (tmp_path / "run/run.json").write_text(json.dumps({"settings": settings, "wall_seconds": 1}))
    with pytest.raises(FileNotFoundError, match=r"no history\.csv"):
        pinned(str(tmp_path / "run"))
    (tmp_path / "run/history.csv").touch()
    for place in (folder, tmp_path / "run"):
        assert pinned(str(place)) == str(place)
        other, found = open_teacher(str(place), an_input())
        assert found["sha256"] == card.sha256
        np.testing.assert_allclose(other.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-5)
    both = pinned(f"resnet20-cifar10@1, {tmp_path / 'run'}")
    assert both == f"resnet20-cifar10@1,{tmp_path / 'run'}"
    models, several = open_teachers(both, an_input())
    assert [each["name"] for each in several] == ["resnet20-cifar10", str(tmp_path / "run")]
    assert several[0]["version"] == 1 and several[1] == found
    np.testing.assert_allclose(models[1].predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-5)
    assert open_teachers("resnet20-cifar10@2", an_input())[1] == facts
    for names in ("resnet2-cifar10", "resnet20-cifar10,resnet2-cifar10"):
        with pytest.raises(ValueError, match="did you mean"):
            pinned(names)


def test_a_folder_here_is_not_the_published_network_of_its_name(tmp_path, monkeypatch):
    """An --out of `convert` or `finetune`, in the working directory and without a slash."""
    publish(tmp_path / "converted", name="resnet20-cifar10")
    monkeypatch.chdir(tmp_path)
    arrays, name = find_weights("converted")
    assert name == pinned("converted") == "converted"
    again, _ = find_weights(name)
    published, full_name = find_weights("resnet20-cifar10")
    assert full_name == pinned("resnet20-cifar10") == keras_resv2.pretrained_card("resnet20-cifar10").full_name
    kernel = "stem_conv/kernel"
    assert np.array_equal(again[kernel], arrays[kernel]) and not np.array_equal(again[kernel], published[kernel])


def test_a_newer_version_does_not_change_a_run_that_began_before():
    assert kept_version("resnet20-cifar10", "resnet20-cifar10@1") == "resnet20-cifar10@1"
    for given in ("resnet20-cifar10@2", "resnet32-cifar10", "runs/resnet20-cifar10"):
        assert kept_version(given, "resnet20-cifar10@1") is None
    assert kept_version("resnet20-cifar10", None) is None
    several = "resnet20-cifar10@4,runs/deep"
    for given in ("resnet20-cifar10,runs/deep", "resnet20-cifar10, runs/deep", several):
        assert kept_version(given, several) == several
    for given in ("resnet20-cifar10", "resnet20-cifar10@3,runs/deep", "runs/deep,resnet20-cifar10@4", several + ",x"):
        assert kept_version(given, several) is None


def test_teachers_of_imagenet_have_classes_by_either_name():
    data = an_input(class_names=("n01440764", "n01443537"))
    check_teacher("one", data, [("tench", "goldfish"), ("n01440764", "n01443537")], (32, 32, 3))
    with pytest.raises(ValueError, match=r"2 classes \(tench, goldfish\)"):
        check_teacher("one", data, [("tench", "goldfish"), ("n01443537", "n01440764")], (32, 32, 3))


@pytest.mark.parametrize("data, says", [
    (dict(class_names=tuple("abcdefghij")), r"has 10 classes \(airplane, .*, but the run has 10 \(a, b, c, ...\)"),
    (dict(class_names=("cat", "dog")), r"but the run has 2 \(cat, dog\): they must be the same"),
    (dict(size=16), "expects images of 32 x 32 pixels, but the run has 16 x 16"),
])  # fmt: skip
def test_teachers_that_do_not_fit(data, says):
    with pytest.raises(ValueError, match=says):
        open_teacher("resnet20-cifar10", an_input(**data))


def test_the_record_names_the_teacher():
    recipe = RECIPES["fast"].with_values(["teacher=resnet20-cifar10@2"])
    config, facts = RunConfig("resnet20", "fast", recipe), {"name": "resnet20-cifar10", "version": 2, "sha256": "0"}
    settings = config.settings(recipe, an_input(), facts)
    assert settings["teacher"] == facts and settings["recipe_values"]["teacher"] == "resnet20-cifar10@2"
    assert "teacher" not in RunConfig("resnet20", "fast", RECIPES["fast"]).settings(RECIPES["fast"], an_input())
