"""Training: recipes and augmentation by arithmetic, real learning, resuming, publishing."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2 import datasets
from train import checkpoint, engine, publish
from train.data import Batches, crop_and_flip, pad_images
from train.recipes import RECIPES

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_paper_recipe_is_the_papers():
    """He et al. 2016, section 4: 64k steps of 128, 0.01 for 400 steps, then 0.1, divided by 10 at 32k and 48k."""
    recipe = RECIPES["paper"]
    assert (recipe.steps, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (64_000, 128, 0.9, 1e-4)
    assert (recipe.pad, recipe.pad_mode, recipe.flip, recipe.nesterov) == (4, "mean", "random", False)
    at = {step: recipe.learning_rate(step) for step in (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert at == {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}


def test_one_cycle_runs_up_then_down_to_nothing():
    recipe = RECIPES["fast"]
    rates = [recipe.learning_rate(step) for step in range(recipe.steps)]
    top = int(np.argmax(rates))
    assert rates[0] == 0.02 and abs(max(rates) - 0.2) < 1e-4 and abs(top / recipe.steps - 0.2) < 0.001
    assert np.all(np.diff(rates[: top + 1]) > 0) and np.all(np.diff(rates[top:]) < 0) and 0 < rates[-1] < 1e-4


def test_crop_and_flip_against_loops():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 12, 12, 3), dtype="uint8")
    rows, columns, flips = rng.integers(0, 5, 5), rng.integers(0, 5, 5), np.array([0, 1, 1, 0, 1])
    for i, found in enumerate(crop_and_flip(images, rows, columns, flips, (8, 8))):
        expected = images[i, rows[i] : rows[i] + 8, columns[i] : columns[i] + 8]
        np.testing.assert_array_equal(found, expected[:, ::-1] if flips[i] else expected)


def test_padding():
    images = np.arange(2 * 4 * 4 * 3, dtype="uint8").reshape(2, 4, 4, 3)
    mean = pad_images(images, 2, "mean")
    np.testing.assert_array_equal(mean[:, 2:-2, 2:-2], images)
    np.testing.assert_array_equal(mean[0, 0, 0], images.mean((0, 1, 2)).round())
    np.testing.assert_array_equal(pad_images(images, 2, "reflect")[:, 1, 2:-2], images[:, 1])
    assert pad_images(images, 0, "mean") is images


def small_recipe(**changes):
    return dataclasses.replace(RECIPES["fast"], **{"steps": 40, "batch_size": 10, "dtype": "float32", **changes})


def test_every_epoch_has_every_image_once():
    """Batches do not divide the dataset: the stream goes on over the end of an epoch."""
    labels = np.arange(25)
    images = np.zeros((25, 8, 8, 3), "uint8")
    batches = Batches(images, labels, small_recipe(), seed=0)
    stream = np.concatenate([batches[step][1] for step in range(5)])
    epochs = stream[:25], stream[25:]
    assert all(sorted(epoch) == list(range(25)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_alternating_flips_show_both_sides_of_each_image_in_two_epochs():
    images = np.zeros((20, 8, 8, 3), "uint8")
    images[:, :, :4] = 255
    recipe = small_recipe(pad=0)
    batches = Batches(images, np.arange(20), recipe, seed=0)
    seen = {}
    for step in range(4):
        for image, label in zip(*batches[step], strict=True):
            seen.setdefault(label, []).append(image[0, 0, 0])
    assert all(sorted(sides) == [0, 255] for sides in seen.values())


def test_batches_depend_on_seed_and_step_alone():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8, 3), dtype="uint8")
    one, two, other = (Batches(images, np.arange(30), small_recipe(), seed) for seed in (0, 0, 1))
    for _ in range(3):
        one[0]
    np.testing.assert_array_equal(one[7][0], two[7][0])
    assert not np.array_equal(one[7][0], other[7][0])


def test_weight_decay_is_in_the_gradient():
    """One step by hand: velocity = -rate * (gradient + l2 * w), on kernels and not on biases."""
    kernel, bias = keras.Variable([2.0], name="kernel"), keras.Variable([3.0], name="bias")
    optimizer = engine.SGD(0.1, momentum=0.9, l2=0.5, decays=lambda v: v.name == "kernel")
    optimizer.build([kernel, bias])
    for _ in range(2):
        optimizer.apply([keras.ops.array([1.0]), keras.ops.array([1.0])])
    w, v = 2.0, 0.0
    for _ in range(2):
        v = 0.9 * v - 0.1 * (1.0 + 0.5 * w)
        w += v
    assert abs(float(kernel[0]) - w) < 1e-6
    assert abs(float(bias[0]) - (3.0 - 0.1 - 0.19)) < 1e-6


def test_fused_batch_norm_is_the_stock_layer():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the fused kernel is TensorFlow's")
    import tensorflow as tf

    from train.fused_batch_norm import FusedBatchNormalization

    x = tf.random.normal((16, 5, 7, 6), 2.0, 3.0, seed=0)
    layers = [kind(momentum=0.9, epsilon=1e-5) for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights([np.linspace(0.5, 1.5, 6), np.linspace(-1, 1, 6), np.zeros(6), np.ones(6)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**3)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        moved = layer.get_weights()[2:]
        frozen = layer(x, training=False)
        layer.trainable = False
        results.append([y, *gradients, *moved, frozen, layer(x, training=True), *layer.get_weights()[2:]])
    for stock, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused, stock, rtol=2e-4, atol=2e-3)


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's 1,797 real 8x8 digits, as 32x32 pictures in the form of CIFAR-10: (train, test)."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = sklearn.load_digits(return_X_y=True)
    images = np.repeat(np.repeat(images.reshape(-1, 8, 8, 1), 4, 1), 4, 2) * (255 / 16)
    images = np.repeat(images, 3, 3).astype("uint8")
    return (images[:1500], labels[:1500].astype("uint8")), (images[1500:], labels[1500:].astype("uint8"))


@pytest.fixture(scope="module")
def digits_npz(digits, tmp_path_factory):
    (x_train, y_train), (x_test, y_test) = digits
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def command(digits_npz, out, *more):
    return [
        sys.executable, "-m", "train.train", "--model=resnet20", f"--data_dir={digits_npz}", f"--out={out}",
        "--recipe=fast", "--batch_size=50", "--evaluate_every=1", *more,
    ]  # fmt: skip


def train(digits_npz, out, *more, ok=True):
    done = subprocess.run(command(digits_npz, out, *more), capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode == 0) == ok, done.stderr[-2000:]
    return done


def history(out):
    with open(out / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(digits_npz, tmp_path_factory):
    """A run of 120 steps in float32, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(digits_npz, out, "--steps=120", "--dtype=float32")
    return out


def test_a_network_learns_real_digits(finished):
    """Chance is 90 %; four epochs bring the error on unseen digits far below."""
    rows = history(finished)
    assert len(rows) == 4 and float(rows[-1]["test_error"]) < 20
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    record = json.loads((finished / "run.json").read_text())
    assert record["test_error_at_end"] == float(rows[-1]["test_error"])
    assert record["settings"]["seed"] == 0 and "data_dir" not in record["command"]
    assert (finished / "curve.png").exists()


def test_a_killed_run_resumes_and_ends_the_same(finished, digits_npz, tmp_path):
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(digits_npz, out, "--steps=120", "--dtype=float32", "--checkpoint_seconds=0"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(out.glob("checkpoint-*[4-9]?.npz")):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = max(out.glob("checkpoint-*.npz"))
    assert "00000039" < newest.stem.split("-")[1] < "00000120"
    newest.write_bytes(newest.read_bytes()[:1000])  # and the newest checkpoint is damaged
    done = train(digits_npz, out, "--steps=120", "--dtype=float32")
    assert "damaged" in done.stdout
    # Sums in another order round differently, and training magnifies it; the exact test is the next one.
    within = {"step": 0, "epoch": 0, "learning_rate": 0, "train_loss": 0.05, "train_error": 3, "test_error": 3}
    for resumed, whole in zip(history(out), history(finished), strict=True):
        assert all(abs(float(resumed[c]) - float(whole[c])) <= within[c] for c in within), (resumed, whole)


def test_resuming_restores_everything_that_the_next_step_depends_on(digits, tmp_path):
    """Stopped after 5 of 8 steps and resumed into a network with other initial weights: the same weights."""
    recipe = small_recipe(steps=8)

    def stop(done, row):
        if done == 5:
            raise KeyboardInterrupt

    def run(seed, out, observers=()):
        out.mkdir(exist_ok=True)
        keras.utils.set_random_seed(seed)
        model = keras_resv2.ResNet(8, classifier_activation=None)
        progress = engine.train(model, *digits, recipe, 0, out, checkpoint_seconds=0, observers=observers)
        return model.get_weights(), progress.history[-1]

    whole, whole_row = run(0, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(0, tmp_path / "cut", [stop])
    resumed, resumed_row = run(1, tmp_path / "cut")
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert abs(whole_row["train_loss"] - resumed_row["train_loss"]) < 1e-3


def test_other_settings_do_not_resume(finished, digits_npz):
    done = train(digits_npz, finished, "--steps=120", "--dtype=float32", "--seed=1", ok=False)
    assert "other seed" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "more, words",
    [
        (["--model=resnet21"], "nearest: resnet32, resnet20"),
        (["--shortcut=gate"], "exclusive_gating"),
        (["--data_dir=nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_flags_are_one_line(digits_npz, tmp_path, more, words):
    done = train(digits_npz, tmp_path / "run", *more, ok=False)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(digits, tmp_path):
    recipe = small_recipe(schedule=((0, 1e30), (1, 1e30)))
    model = keras_resv2.ResNet20(classifier_activation=None)
    with pytest.raises(FloatingPointError, match="step 2, learning rate 1e"):
        engine.train(model, *digits, recipe, 0, tmp_path)


def test_mixed_precision_learns_the_same(digits, tmp_path):
    """Mean loss of the first epoch in bfloat16 and float32, same seed and batches, at a gentle rate."""
    losses = {}
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet20(classifier_activation=None, dtype=dtype)
        out = tmp_path / dtype
        out.mkdir()
        recipe = small_recipe(steps=30, batch_size=50, schedule=((0, 0.01),), dtype=dtype)
        losses[dtype] = engine.train(model, *digits, recipe, 0, out).history[-1]["train_loss"]
    assert abs(losses["float32"] - losses["mixed_bfloat16"]) < 0.05 and max(losses.values()) < 2.2


def test_checkpoints_keep_two_and_refuse_another_network(tmp_path):
    variables = [keras.Variable(np.arange(3.0)), keras.Variable(0.0)]
    for step in (1, 2, 3):
        variables[1].assign(step)
        checkpoint.save(tmp_path, step, variables, {"at": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000002.npz", "checkpoint-00000003.npz"]
    variables[1].assign(0)
    assert checkpoint.restore(tmp_path, variables) == (3, {"at": 3}) and float(variables[1]) == 3
    with pytest.raises(ValueError, match="another network"):
        checkpoint.restore(tmp_path, variables[:1])


def test_damaged_checkpoints_do_not_outlive_their_successors(tmp_path):
    variables = [keras.Variable(0.0)]
    for step in (10, 20):
        checkpoint.save(tmp_path, step, variables, {})
        (tmp_path / f"checkpoint-{step:08d}.npz").write_bytes(b"damaged")
    assert checkpoint.restore(tmp_path, variables) == (0, None)
    checkpoint.save(tmp_path, 5, variables, {})
    assert checkpoint.restore(tmp_path, variables)[0] == 5


@pytest.fixture
def committed(finished, tmp_path):
    """The finished run, as a clean checkout would have made it."""
    return with_commit(finished, tmp_path / "committed", "0123456789ab")


def with_commit(run, copy, commit):
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["environments"][0]["commit"] = commit
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def test_publishing(committed, digits_npz, tmp_path):
    """The card has what the file scores; versions are never written over."""
    card = publish.publish(committed, digits_npz, tmp_path / "weights")
    assert card.full_name == "resnet20-cifar10@1" and card.paper_error == 8.75
    folder = tmp_path / "weights/resnet20-cifar10/1"
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(content) == {"weights.h5", "card.json", "history.csv", "curve.png"}
    images, labels = datasets.load_split("cifar10", "test", digits_npz)
    model = keras_resv2.ResNet20(weights=str(folder / "weights.h5"))
    wrong = np.sum(model.predict(images, verbose=0).argmax(1) != labels)
    assert card.test_error == round(100 * wrong / len(labels), 2)
    with pytest.raises(FileExistsError, match="never changes"):
        publish.publish(committed, digits_npz, tmp_path / "weights", version=1)
    assert publish.publish(committed, digits_npz, tmp_path / "weights").version == 2
    assert content == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_publishing_what_must_not_be(committed, digits_npz, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        publish.publish(tmp_path, digits_npz, tmp_path / "weights")
    with np.load(digits_npz) as arrays:
        changed = dict(arrays)
    changed["x_test"] = changed["x_test"][::-1]
    np.savez(tmp_path / "other.npz", **changed)
    with pytest.raises(ValueError, match="not the test images"):
        publish.publish(committed, tmp_path / "other.npz", tmp_path / "weights")
    with pytest.raises(ValueError, match="not even the seed"):
        publish.publish(committed, digits_npz, tmp_path / "weights", seed_runs=[committed])
    dirty = with_commit(committed, tmp_path / "dirty", "0123456789ab-dirty")
    with pytest.raises(ValueError, match="clean checkout"):
        publish.publish(dirty, digits_npz, tmp_path / "weights")
    (dirty / "curve.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no curve\.png"):
        publish.publish(dirty, digits_npz, tmp_path / "weights")
    assert not list((tmp_path / "weights").glob("*/*"))


@pytest.mark.parametrize("script", ["train", "evaluate", "publish"])
def test_help(script):
    done = subprocess.run([sys.executable, "-m", f"train.{script}", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert f"python -m train.{script}" in done.stdout
    assert "--data_dir: tensorflow-datasets directory" in done.stdout


HIDE_TENSORFLOW = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
hidden = ("tensorflow", "tensorflow_datasets")
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find(name, *rest)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_on_other_backends_needs_neither_tensorflow_nor_tfds(backend, digits_npz, tmp_path):
    """Both hidden, as if they were not installed."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    (tmp_path / "sitecustomize.py").write_text(HIDE_TENSORFLOW)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command(digits_npz, tmp_path / "run", "--steps=3", "--dtype=float32"),
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run/run.json").read_text())["environments"][0]["backend"] == backend
