"""Shared pieces of the tests: where real data is, and a published weight folder made on the spot."""

import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLOURS = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory):
    """An .npz of CIFAR-10: the file that CIFAR10_NPZ names, or unpacked from a data folder beside the checkout."""
    given = os.environ.get("CIFAR10_NPZ")
    if given:
        return given
    tool = ROOT.parent / "shared" / "tools" / "cifar10.py"
    if not tool.exists():
        pytest.skip("CIFAR-10 is not here: set CIFAR10_NPZ to an .npz with x_train, y_train, x_test, y_test")
    path = tmp_path_factory.mktemp("cifar10") / "cifar10.npz"
    subprocess.run([sys.executable, tool, "--npz", path], check=True)
    return str(path)


@pytest.fixture
def pixels():
    """Eight random pictures, uint8 (8, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("KERAS_RESV2_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory):
    """Pictures of three colours with noise, 80 to 120 pixels a side: 8 of each to train on, 3 to test."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 8), ("val", 3)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = rng.normal(0, 20, (*rng.integers(80, 120, 2), 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype("uint8")
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
    return root
