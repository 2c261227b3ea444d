"""Runs on CIFAR-100 and custom arrays: statistics and class names are passed from the data to the weights."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_train import PROGRAM, ROOT

import keras_resv2
from helpers.with_resnet8 import ROW
from keras_resv2 import architectures, builders, cli
from keras_resv2.data import DATASETS, Dataset
from keras_resv2.models.preprocessing import resolve_pixels
from keras_resv2.storage.weight_file import read_weights
from train import evaluate, publish
from train.data.inputs import open_input
from train.recipes import RECIPES
from train.run_files import completed_settings, differences, pixels_of_older_run

NAMES = ("zero", "one", "two", "three", "four", "five", "six")
RECIPE = ("--recipe=fast", "--dtype=float32", "--batch_size=50", "--evaluate_every=1", "--checkpoint_seconds=0")


@pytest.fixture
def resnet8(monkeypatch):
    """Adds the network with 8 layers to the package in this process too."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "resnet8", ROW)
    monkeypatch.setitem(builders.BUILDERS, "resnet8", builders._make_builder("resnet8", ROW))


def train(data_dir, out, *more):
    command = [*PROGRAM, "--model=resnet8", f"--data_dir={data_dir}", f"--out={out}", *RECIPE, *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def digits_npz(tmp_path_factory):
    """scikit-learn's unmodified digits from 0 to 6: grayscale, 8x8, seven classes with names."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = sklearn.load_digits(n_class=7, return_X_y=True)
    images = (images * (255 / 16)).astype("uint8").reshape(-1, 8, 8)
    arrays = dict(x_train=images[:1000], y_train=labels[:1000], x_test=images[1000:], y_test=labels[1000:])
    path = tmp_path_factory.mktemp("arrays") / "small-digits.npz"
    np.savez(path, **arrays, class_names=np.array(NAMES))
    return path


@pytest.fixture(scope="module")
def arrays_run(digits_npz, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "arrays"
    train(digits_npz, out, "--dataset=arrays", "--steps=60")
    return out


def committed(run, target):
    """A copy that claims to have been trained with committed source."""
    shutil.copytree(run, target)
    record = json.loads((target / "run.json").read_text())
    for environment in record["environments"]:
        environment["commit"] = "0123456789ab"
    (target / "run.json").write_text(json.dumps(record))
    return target


def test_a_run_on_arrays_records_properties_of_the_file(arrays_run, digits_npz):
    record = json.loads((arrays_run / "run.json").read_text())
    settings, images = record["settings"], np.load(digits_npz)["x_train"].astype("float64")
    assert settings["class_names"] == list(NAMES) and settings["image_shape"] == [8, 8, 3]
    mean, std = settings["preprocessing"]
    assert mean == pytest.approx([images.mean()] * 3, abs=5.1e-4)
    assert std == pytest.approx([images.std()] * 3, abs=5.1e-4)
    assert record["test_error_at_end"] < 50, "six of seven are wrong by chance"
    assert record["command"].count("--dataset arrays") == 1 and "small-digits" not in record["command"]


def test_a_run_on_arrays_resumes(arrays_run, digits_npz, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(arrays_run, out)
    newest = max(out.glob("checkpoint-*.npz"), key=lambda path: int(path.stem.split("-")[1]))
    for path in (newest, out / "weights.h5"):
        path.unlink()
    train(digits_npz, out, "--dataset=arrays", "--steps=60")
    resumed, whole = (read_weights(folder / "weights.h5") for folder in (out, arrays_run))
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array)


def test_the_last_step_of_averaged_weights(arrays_run, digits_npz, resnet8, tmp_path):
    """Averaging does not change the training: these are the weights of the same run without it."""
    out = tmp_path / "run"
    train(digits_npz, out, "--dataset=arrays", "--steps=60", "--set=average=swa", "--set=average_start=0", "--rolled")
    plain = evaluate.evaluate(arrays_run, digits_npz)["test_error"]
    command = [*PROGRAM[:-1], "train.evaluate", f"--run={out}", f"--data_dir={digits_npz}", "--last_step"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["test_error"] == plain != evaluate.evaluate(out, digits_npz)["test_error"]
    with pytest.raises(ValueError, match="omit --last_step"):
        evaluate.evaluate(arrays_run, digits_npz, last_step=True)
    record = json.loads((out / "run.json").read_text())
    values = record["settings"]["recipe_values"]
    for name, value in {"units_per_batch": 2, "survival": 0.5, "image_size": 6}.items():  # other statistics
        (out / "run.json").write_text(
            json.dumps(record).replace(json.dumps(values), json.dumps({**values, name: value}))
        )
        with pytest.raises(ValueError, match=f"{name}={value}"):
            evaluate.evaluate(out, digits_npz, last_step=True)
    (out / "run.json").write_text(json.dumps(record))
    for path in out.glob("checkpoint-*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 60"):
        evaluate.evaluate(out, digits_npz, last_step=True)


def test_a_weight_folder_of_arrays(arrays_run, digits_npz, resnet8, tmp_path, capsys):
    """Measured by `train.evaluate`, published under the file's name, opened, and measured again by the command."""
    record = json.loads((arrays_run / "run.json").read_text())
    assert evaluate.evaluate(arrays_run, digits_npz)["test_error"] == round(record["test_error_at_end"], 2)
    card = publish.publish(committed(arrays_run, tmp_path / "run"), digits_npz, tmp_path / "weights")
    assert card.full_name == "resnet8-small_digits@1" and card.class_names == NAMES and card.paper_error is None
    folder = tmp_path / "weights/resnet8-small_digits/1"
    images = np.repeat(np.load(digits_npz)["x_test"][:20, ..., None], 3, axis=3)
    model = keras_resv2.from_pretrained(folder, classifier_activation=None)
    pixels = np.load(digits_npz)["x_train"].astype("float64")
    given = dict(weights=str(folder / "weights.h5"), classes=7, input_shape=(8, 8, 3), classifier_activation=None)
    by_hand = keras_resv2.build("resnet8", preprocessing=([pixels.mean()] * 3, [pixels.std()] * 3), **given)
    expected = by_hand.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="pixels="):  # the file says with which statistics it was trained
        keras_resv2.build("resnet8", **given)
    other = keras_resv2.build("resnet8", **{**given, "weights": read_weights(folder / "weights.h5")})
    assert np.abs(other.predict(images, verbose=0) - expected).max() > 0.1, "statistics make no difference"
    assert cli.main(["evaluate", str(folder), "--data_dir", str(digits_npz), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"] and found["same_images_as_card"]
    assert found["measured_error"] == pytest.approx(card.test_error, abs=0.01)


def test_arrays_named_like_a_dataset_are_not_published(arrays_run, digits_npz, resnet8, tmp_path):
    shutil.copy(digits_npz, tmp_path / "cifar10.npz")
    with pytest.raises(ValueError, match="rename the file"):
        publish.publish(committed(arrays_run, tmp_path / "run"), tmp_path / "cifar10.npz", tmp_path / "weights")


def test_statistics_of_cifar100_travel_with_the_weights(resnet8, tmp_path, monkeypatch, pixels):
    """From the registry to run.json, the card, `from_pretrained` and the builder's weights="cifar100"."""
    labels = np.arange(100, dtype="uint8")
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype="uint8")
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    train(tmp_path / "few.npz", tmp_path / "made", "--dataset=cifar100", "--steps=2")
    run = committed(tmp_path / "made", tmp_path / "run")
    home = tmp_path / "home"
    monkeypatch.setenv("KERAS_RESV2_HOME", str(home))
    card = publish.publish(run, tmp_path / "few.npz", home / "weights")
    assert card.name == "resnet8-cifar100" and len(card.class_names) == 100
    mean, std = (np.array(values) for values in ((129.304, 124.07, 112.434), (68.17, 65.392, 70.418)))
    for model in (
        keras_resv2.from_pretrained("resnet8-cifar100"),
        keras_resv2.build("resnet8", weights="cifar100"),
        keras_resv2.from_pretrained("resnet8-cifar100", classes=3),
    ):
        found = model.get_layer("preprocessing")(pixels)
        np.testing.assert_allclose(np.asarray(found), (pixels - mean) / std, rtol=1e-5, atol=1e-5)
    ranked = keras_resv2.decode_predictions(np.eye(100)[[3]], "resnet8-cifar100", top=1)
    assert ranked == [[("bear", 1.0)]] == keras_resv2.decode_predictions(np.eye(100)[[3]], "cifar100", top=1)
    with pytest.raises(ValueError, match="were trained with"):
        keras_resv2.build("resnet8", weights="cifar100", preprocessing="cifar10")


def test_defaults_of_networks_without_dataset_are_unchanged():
    """The numbers previously defined by the stems."""
    cifar, imagenet = keras_resv2.ResNet(8), keras_resv2.ResNet(18)
    for model, mean, std, shape in (
        (cifar, (125.307, 122.95, 113.865), (62.993, 62.089, 66.705), (None, 32, 32, 3)),
        (imagenet, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (None, 224, 224, 3)),
    ):
        layer = model.get_layer("preprocessing")
        assert model.input_shape == shape
        np.testing.assert_array_equal(np.ravel(layer.scale), 1 / np.array(std))
        np.testing.assert_array_equal(np.ravel(layer.offset), -np.array(mean) / np.array(std))


def test_older_runs_keep_the_statistics_of_their_stem(tmp_path):
    """They used to depend on the stem: a network with ImageNet's stem had ImageNet's, whatever its training dataset."""
    older = {"model": "resnet18", "arguments": {}, "dataset": "cifar10", "recipe_values": {}, "seed": 0}
    assert completed_settings(older)["preprocessing"][0] == [123.675, 116.28, 103.53]
    (tmp_path / "run.json").write_text(json.dumps({"settings": older}))
    assert pixels_of_older_run(tmp_path) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    newer = {**older, "model": "resnet20", "preprocessing": [list(values) for values in DATASETS["cifar10"].pixels]}
    assert differences({**older, "model": "resnet20"}, newer) == []
    (tmp_path / "run.json").write_text(json.dumps({"settings": newer}))
    assert pixels_of_older_run(tmp_path) is None


ROWS = """
import sys
from keras_resv2.data import DATASETS, Dataset
DATASETS["mine"] = Dataset("mine", ("a", "b"), (8, 8, 3), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
sys.argv = ["train", "--helpshort"]
import runpy
runpy.run_module("train.train", run_name="__main__", alter_sys=True)
"""


def test_a_dataset_is_one_row(monkeypatch, tmp_path):
    """Added from outside: usable in training, as statistics by name, for class names and splits."""
    done = subprocess.run([sys.executable, "-c", ROWS], capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert "mine" in done.stdout.partition("--dataset:")[2][:200]
    monkeypatch.setitem(DATASETS, "mine", Dataset("mine", ("a", "b"), (8, 8, 3), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    images, labels = np.zeros((10, 8, 8), "uint8"), np.arange(10) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    found = open_input("mine", tmp_path / "mine.npz", RECIPES["fast"], 0)
    assert found.class_names == ("a", "b") and found.image_shape == (8, 8, 3)
    assert (found.train_images, found.test_images) == (10, 4)
    assert found.pixels == resolve_pixels("mine") == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)) and not found.from_data
    assert keras_resv2.decode_predictions(np.eye(2), "mine", top=1) == [[("a", 1.0)], [("b", 1.0)]]


def test_recipes_of_the_other_kind_of_dataset(digits_npz):
    with pytest.raises(ValueError, match="for --dataset cifar10 or cifar100 or arrays, not folder"):
        open_input("folder", digits_npz, RECIPES["fast"], 0)
    with pytest.raises(ValueError, match="for --dataset imagenette or imagenet2012 or folder, not arrays"):
        open_input("arrays", digits_npz, RECIPES["imagenet"], 0)
