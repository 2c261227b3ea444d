"""`pip install .` installs the package, its command and all published weights."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

from helpers.paths import ROOT
from train.source_tree import ignored_names, is_ignored

BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The source distribution of the files that git has, unpacked."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "checkout" / name)
    command = [sys.executable, "-c", BUILD, folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder / "checkout")
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.unpack_archive(next(folder.glob("keras_resv2-*.tar.gz")), folder / "unpacked", filter="data")
    return next((folder / "unpacked").iterdir())


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel, built from the source distribution as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return zipfile.ZipFile(next(folder.glob("keras_resv2-*.whl")))


def tracked():
    """Returns the paths of the files of the repository; all files in a copy without git."""
    if (ROOT / ".git").exists():
        if not shutil.which("git"):
            pytest.skip("git is not installed")
        listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        return [name for name in listed.splitlines() if (ROOT / name).is_file()]
    patterns = ignored_names(ROOT)
    return [path.relative_to(ROOT).as_posix() for path in files_of(ROOT, patterns) if path.name != "PKG-INFO"]


def files_of(folder, patterns):
    """Lists the files below a folder that git would not ignore."""
    for path in folder.iterdir():
        if not is_ignored(path.name, path.is_dir(), folder == ROOT, patterns):
            yield from files_of(path, patterns) if path.is_dir() else [path]


def test_the_source_distribution_holds_what_its_tests_need(source):
    distributed = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    expected = set(tracked())
    assert len(expected) > 200
    assert not expected - distributed, "MANIFEST.in"
    added = {name for name in distributed - expected if not name.startswith("keras_resv2.egg-info/")}
    assert added <= {"PKG-INFO", "setup.cfg"}


def test_the_wheel_carries_every_published_file(wheel):
    """Except for curves, and replaced versions that would make it larger than 20 MB."""
    replaced = {
        "preact_resnet110-cifar10": (1,),
        "preact_resnet164-cifar10": (1, 2),
        "preact_resnet56-cifar100": (1,),
        "resnet20-cifar10": (3,),
    }
    left_out = tuple(f"weights/{name}/{version}/" for name, versions in replaced.items() for version in versions)
    published = {p.relative_to(ROOT).as_posix() for p in (ROOT / "weights").glob("*/*/*")}
    expected = {path for path in published if not path.startswith(left_out) and not path.endswith("/curve.png")}
    carried = {name for name in wheel.namelist() if name.startswith("keras_resv2/weights/")}
    assert expected and carried - {"keras_resv2/weights/results.csv"} == {f"keras_resv2/{path}" for path in expected}
    assert {f"weights/{name}/{max(versions) + 1}/card.json" for name, versions in replaced.items()} <= expected


def test_the_wheel_is_no_larger_than_it_should_be(wheel):
    assert os.path.getsize(wheel.filename) < 20e6


def test_the_wheel_carries_every_module(wheel):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "keras_resv2").rglob("*.py")}
    assert "keras_resv2/data/registry.py" in modules <= set(wheel.namelist())


def test_the_installed_package_finds_its_weights(wheel, tmp_path):
    """From the unpacked wheel, away from the source tree."""
    wheel.extractall(tmp_path)
    code = "import keras_resv2, keras_resv2.cli; print(keras_resv2.__file__, *keras_resv2.list_pretrained())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert {"preact_resnet20-cifar10", "resnet20-cifar10", "resnet50-imagenet"} <= set(done.stdout.split())


def test_metadata(wheel):
    name = next(n for n in wheel.namelist() if n.endswith("METADATA"))
    metadata = wheel.read(name).decode()
    assert "Name: keras-resv2\n" in metadata and "Requires-Python: >=3.10" in metadata
    lines = [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    required = {requirement.name.replace("-", "_"): requirement for requirement in map(Requirement, lines)}
    assert {"tensorflow", "keras", "h5py", "numpy"} <= set(required)
    pins = [Requirement(line) for line in (ROOT / "tests/oldest.txt").read_text().splitlines() if line[0] != "#"]
    for pin in pins:  # the bound is what `make test-oldest` installs, to the second number
        (version,) = (each.version for each in pin.specifier)
        (bound,) = (each.version for each in required[pin.name].specifier)
        assert version in required[pin.name].specifier and version.startswith(bound), pin.name
    assert {"train", "convert", "export", "dev"} <= {
        line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")
    }
    entry_points = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "keras-resv2 = keras_resv2.cli:main" in entry_points
