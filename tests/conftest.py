"""Shared fixtures: real data, and a temporary published weight folder."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow leaves these kernels off on older processors
# What users may have set and tests depend on.
os.environ.pop("TF_CONFIG", None)
os.environ.pop("HF_TOKEN", None)
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("NO_COLOR", None)
os.environ.pop("COLUMNS", None)
os.environ.update(NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")  # where the stand-ins for servers are
# Exact comparisons, and devices in any number, are the processor's.
os.environ.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
# XLA compiles far longer than the tests' small programs run: quickly made code, and each program made once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="keras-resv2-tests-")  # removed as this process ends
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several at once: threads of each would wait for those of the others
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT

COLORS = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory):
    """An .npz of CIFAR-10: the file in CIFAR10_NPZ, or unpacked from a data folder next to the checkout."""
    given = os.environ.get("CIFAR10_NPZ")
    if given:
        return given
    tool = ROOT.parent / "shared" / "tools" / "cifar10.py"
    if not tool.exists():
        pytest.skip("CIFAR-10 is not here: set CIFAR10_NPZ to an .npz with x_train, y_train, x_test, y_test")
    path = tmp_path_factory.mktemp("cifar10") / "cifar10.npz"
    subprocess.run([sys.executable, tool, "--npz", path], check=True)
    return str(path)


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory):
    """An .npz of CIFAR-100: the file in CIFAR100_NPZ, or unpacked from a data folder next to the checkout."""
    given = os.environ.get("CIFAR100_NPZ")
    if given:
        return given
    tool = ROOT.parent / "shared" / "tools" / "cifar100.py"
    if not tool.exists():
        pytest.skip("CIFAR-100 is not here: set CIFAR100_NPZ to an .npz with x_train, y_train, x_test, y_test")
    path = tmp_path_factory.mktemp("cifar100") / "cifar100.npz"
    subprocess.run([sys.executable, tool, "--npz", path], check=True)
    return str(path)


@pytest.fixture
def pixels():
    """Eight random images, uint8 (8, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seeds fixtures of a module; those of a test are seeded separately, below."""
    _seed()


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Makes initial weights, dropout and shuffling reproducible."""
    _seed()


def _seed():
    import keras

    keras.utils.set_random_seed(0)
    if "torch" in sys.modules:  # Keras seeds it as its backend alone
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Prevents tests from using the user's cache."""
    monkeypatch.setenv("KERAS_RESV2_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Images of three colors with noise, 80 to 120 pixels a side: 8 of each to train on, 3 to test."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 8), ("val", 3)):
        for name, color in COLORS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = rng.normal(0, 20, (*rng.integers(80, 120, 2), 3))
                pixels = np.clip(np.array(color) + noise, 0, 255).astype("uint8")
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
    return root


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, even on a machine without CUDA libraries."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    try:
        import torchvision
    except RuntimeError:  # builds for CUDA: their compiled operators do not load here, and are not needed
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.keep_torchvision_library = library
        import torchvision
    except ImportError:
        pytest.skip("torchvision is not installed")
    return torchvision


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's 1,797 real 8x8 digits, as 32x32 images in the form of CIFAR-10: (train, test)."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = sklearn.load_digits(return_X_y=True)
    images = np.repeat(np.repeat(images.reshape(-1, 8, 8, 1), 4, 1), 4, 2) * (255 / 16)
    images = np.repeat(images, 3, 3).astype("uint8")
    return (images[:1500], labels[:1500].astype("uint8")), (images[1500:], labels[1500:].astype("uint8"))


@pytest.fixture(scope="session")
def real_images():
    """20 labelled test images of CIFAR-10: uint8 (20, 32, 32, 3) and (20,)."""
    package = importlib.util.find_spec("foolbox")
    if package is None:
        pytest.skip("real images come with the package foolbox: pip install --no-deps foolbox")
    paths = sorted(pathlib.Path(package.origin).parent.glob("data/cifar10_*.png"))
    labels = np.array([int(path.stem.rpartition("_")[2]) for path in paths])
    return np.stack([np.asarray(Image.open(path)) for path in paths]), labels
