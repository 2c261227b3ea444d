"""Training on several devices: two halves of the processor, two processes; the same loss curve as on one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from test_train import history

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """60 random pictures of ten colours, brighter by class: something to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 10
    images = rng.integers(0, 100, (60, 32, 32, 3)) + 15 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "colours.npz"
    np.savez(path, x_train=images.astype("uint8"), y_train=labels, x_test=images.astype("uint8"), y_test=labels)
    return path


COLOURS = "--recipe=paper", "--batch_size=60"
PICTURES = "--recipe=imagenet", "--dataset=folder", "--image_size=32", "--batch_size=24", "--learning_rate=0.01"


def start(data_dir, out, backend, *more, **environment):
    return subprocess.Popen(
        [
            sys.executable, "-m", "train.train", "--model=resnet20", f"--data_dir={data_dir}", f"--out={out}",
            "--steps=5", *more,
        ],
        cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]


def assert_same_curve(found, expected):
    """A row is a step: a batch is an epoch. Later steps would magnify the rounding."""
    assert len(found) == len(expected) == 5
    for row, wanted in zip(found, expected, strict=True):
        assert row["step"] == wanted["step"] and row["learning_rate"] == wanted["learning_rate"]
        assert abs(float(row["train_loss"]) - float(wanted["train_loss"])) < 5e-3, (found, expected)
    losses = [float(row["train_loss"]) for row in expected]
    assert abs(losses[0] - losses[-1]) > 0.3  # it moves by far more than the tolerance


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one(backend, npz, tmp_path):
    finish(start(npz, tmp_path / "one", backend, *COLOURS))
    finish(start(npz, tmp_path / "two", backend, *COLOURS, "--devices=2"))
    assert_same_curve(history(tmp_path / "two"), history(tmp_path / "one"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_train_as_one(backend, picture_folder, tmp_path):
    """Each decodes its half of every batch."""
    finish(start(picture_folder, tmp_path / "one", backend, *PICTURES))
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    both = []
    for i in range(2):
        if backend == "jax":
            flags, environment = [f"--processes={addresses[0]},2,{i}"], {}
        else:
            task = {"type": "worker", "index": i}
            flags, environment = [], {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
        both.append(start(picture_folder, tmp_path / "two", backend, *PICTURES, *flags, **environment))
    finish(*both)
    assert_same_curve(history(tmp_path / "two"), history(tmp_path / "one"))
