"""Training on several devices: two virtual devices, two processes; the same loss curve as on one."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from test_train import PROGRAM, ROOT, STARTED, history, no_process_is_left, wait_for  # noqa: F401

from keras_resv2.storage.weight_file import read_weights


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """60 random images in ten colors, brighter by class, so that there is something to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 10
    images = rng.integers(0, 100, (60, 32, 32, 3)) + 15 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "colors.npz"
    np.savez(path, x_train=images.astype("uint8"), y_train=labels, x_test=images.astype("uint8"), y_test=labels)
    return path


# Gentle rates: rounding is not magnified to more than the tolerance.
COLORS = "--recipe=paper", "--batch_size=20", "--learning_rate=0.03"
IMAGES = (
    "--recipe=imagenet", "--dataset=folder", "--set=image_size=((0, 24), (0.5, 32))", "--batch_size=8",
    "--learning_rate=0.001", "--set=views=((40, 32), (48, 48))",
)  # fmt: skip


def start(data_dir, out, backend, *more, **environment):
    process = subprocess.Popen(
        [
            *PROGRAM, "--model=resnet8", f"--data_dir={data_dir}", f"--out={out}",
            "--steps=9", "--evaluate_every=1", *more,
        ],
        cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    STARTED.append(process)
    return process


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]


def assert_same_curve(found, expected):
    """Three epochs of three steps; several steps run in one dispatch. Training magnifies rounding."""
    assert len(found) == len(expected) == 3
    for row, wanted, within in zip(found, expected, (0.005, 0.05, 0.05), strict=True):
        assert row["step"] == wanted["step"] and row["learning_rate"] == wanted["learning_rate"]
        assert abs(float(row["train_loss"]) - float(wanted["train_loss"])) < within, (found, expected)
        assert abs(float(row["test_error"]) - float(wanted["test_error"])) < 12  # one of nine images
    losses = [float(row["train_loss"]) for row in expected]
    assert losses[0] - losses[-1] > 0.3  # it moves by far more


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one(backend, npz, tmp_path):
    sizes = "--set=image_size=((0, 24), (0.5, 32))"
    finish(start(npz, tmp_path / "one", backend, *COLORS, sizes))
    finish(start(npz, tmp_path / "two", backend, *COLORS, sizes, "--devices=2"))
    assert_same_curve(history(tmp_path / "two"), history(tmp_path / "one"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_train_as_one(backend, image_folder, tmp_path):
    """Each decodes its half of every batch."""
    finish(start(image_folder, tmp_path / "one", backend, *IMAGES))
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    both = []
    for i in range(2):
        if backend == "jax":
            flags, environment = [f"--processes={addresses[0]},2,{i}"], {}
        else:
            task = {"type": "worker", "index": i}
            flags, environment = [], {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
        both.append(start(image_folder, tmp_path / "two", backend, *IMAGES, *flags, **environment))
    finish(*both)
    assert_same_curve(history(tmp_path / "two"), history(tmp_path / "one"))


ON_MESH = """
import itertools, json, sys
import keras, numpy as np
from train.devices import ONE_DEVICE, use_devices
devices = use_devices(2)
import keras_resv2
from train.data.device_data import DeviceData
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.steps import JaxSteps

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8"), np.arange(40) % 10
recipe = RECIPES["paper"].with_values(["batch_size=8"])
losses = []
for on in (ONE_DEVICE, devices):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    with on.scope():
        model = keras_resv2.ResNet(8, classifier_activation=None)
        source = DeviceData(images, labels, recipe, 0)
        source.max_steps_per_dispatch = 3
        optimizer = make_optimizer(recipe, model.trainable_variables)
        steps = JaxSteps(model, optimizer, source, on, compiled_loop=on is devices)
        batches = list(itertools.islice(source.batches(0), 3))
        losses.append(np.asarray(steps.run([0.001] * 3, batches)[0])[:3].tolist())
        losses[-1].append(float(np.abs(steps.predict_on_batch(images)).sum()))
print(json.dumps(losses))
"""


def test_a_compiled_loop_over_two_devices_is_the_same_steps():
    done = subprocess.run(
        [sys.executable, "-c", ON_MESH], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(one, two, rtol=1e-3)


MASKS = """
import keras, numpy as np, tensorflow as tf
from train.devices import sync_batch_norm, use_devices
devices = use_devices(2)
keras.utils.set_random_seed(0)
with devices.scope():
    x = keras.Input((1000,))
    model = sync_batch_norm(keras.Model(x, keras.layers.Dropout(0.25, name="drop")(x)), devices)

@tf.function
def step():
    return devices.strategy.run(lambda: model(tf.ones((1, 1000)), training=True))

masks = [part.numpy() for _ in range(2) for part in devices.strategy.experimental_local_results(step())]
for mask in masks:
    assert 200 < (mask == 0).sum() < 300 and np.allclose(mask[mask > 0], 1 / 0.75)
for i in range(4):
    for j in range(i):
        assert 300 < (masks[i] != masks[j]).sum() < 450, (i, j)  # by chance 2 * 0.25 * 0.75 of 1,000
assert np.array_equal(model(np.ones((2, 1000), "float32")), np.ones((2, 1000)))
"""


def test_dropout_draws_for_each_device_and_step():
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    done = subprocess.run(
        [sys.executable, "-c", MASKS], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


FINE_TUNE = """
import keras, numpy as np
from train.devices import use_devices
devices = use_devices(2)
keras.utils.set_random_seed(0)
import keras_resv2
from keras_resv2.transfer import cross_validation
cross_validation.FEW = 0  # the validation images alone decide
rng = np.random.default_rng(0)
labels = np.arange(35) % 3
images = np.clip(rng.integers(0, 60, (35, 32, 32, 3)) + 80 * labels[:, None, None, None], 0, 255).astype("uint8")
with devices.scope():
    model = keras_resv2.ResNet(8, classes=3)
    before = keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel)
    for train, validation in (((images, labels), 0.2), ((images[:5], labels[:5]), (images[5:], labels[5:]))):
        _, history = keras_resv2.fine_tune(
            model, train, validation, epochs=2, batch_size=7, learning_rate=0.001, verbose=0
        )
        assert [row["phase"] for row in history] == ["head", "body", "body"]
        assert all(np.isfinite(row["train_loss"]) and np.isfinite(row["validation_loss"]) for row in history)
    try:
        keras_resv2.fine_tune(model, [(images[:7], labels[:7])], None, epochs=1, verbose=0)
        raise SystemExit("a batch of 7 was taken on 2 devices")
    except ValueError as error:
        assert "a batch of 7 images does not divide among 2 devices" in str(error), error
    even = [(images[:8], labels[:8]), (images[8:14], labels[8:14])]
    _, history = keras_resv2.fine_tune(model, even, None, epochs=1, verbose=0)
    assert not np.array_equal(before, keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel))
    error = keras_resv2.measure_error(model, images, labels, batch_size=9)
    wrong = np.concatenate([model.predict_on_batch(images[i : i + 10])[:10].argmax(1) for i in (0, 10, 20)])
assert 0 <= error <= 100 and abs(error * 35 / 100 - (wrong != labels[:30]).sum()) <= 5
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_fine_tuning_on_two_devices_with_numbers_that_do_not_divide(backend):
    done = subprocess.run(
        [sys.executable, "-c", FINE_TUNE], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_seeds_on_two_devices(npz, tmp_path):
    """Each seed creates a new network, on both devices."""
    finish(start(npz, tmp_path / "runs", "tensorflow", *COLORS, "--devices=2", "--seeds=2"))
    assert [len(history(tmp_path / f"runs/seed{seed}")) for seed in range(2)] == [3, 3]
    kernels = [read_weights(tmp_path / f"runs/seed{seed}/weights.h5")["stem_conv/kernel"] for seed in range(2)]
    assert not np.allclose(*kernels, atol=0.05)


def test_a_worker_that_is_asked_to_stop_stops_all(image_folder, tmp_path):
    addresses = [f"127.0.0.1:{free_port()}"]
    flags = "--steps=5000", "--evaluate_every=100000"
    both = [
        start(image_folder, tmp_path / "two", "jax", *IMAGES, *flags, f"--processes={addresses[0]},2,{i}")
        for i in range(2)
    ]
    wait_for((tmp_path / "two/history.csv").exists, *both)
    both[1].terminate()
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 143 and "run the same command to resume" in errors, errors[-3000:]
    assert list((tmp_path / "two").glob("checkpoint-*.npz"))
    # What one process refuses, the other does not wait for.
    addresses = [f"127.0.0.1:{free_port()}"]
    both = [
        start(image_folder, tmp_path / "two", "jax", *IMAGES, *flags, f"--processes={addresses[0]},2,{i}", "--seed=1")
        for i in range(2)
    ]
    for process, words in zip(both, ("run with different seed", "another process stopped the run"), strict=True):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1 and words in errors and "Traceback" not in errors, errors[-3000:]
