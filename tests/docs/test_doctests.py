"""Runs docstring examples of `train` and `benchmarks`, which are not installed; pytest runs those of `keras_resv2`."""

import doctest
import importlib

import pytest

from helpers.paths import ROOT


def examples():
    """Modules with examples. Scripts that define the same flags cannot be imported together and are skipped."""
    for path in sorted([*(ROOT / "train").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        text = path.read_text()
        if ">>>" in text and "flags.DEFINE" not in text and "train.evaluate" not in text:
            yield f"{path.parent.name}.{path.stem}"


@pytest.mark.parametrize("name", examples())
def test_examples_run(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("train", "benchmarks", "keras_resv2"):
            raise
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_there_are_some():
    assert len(list(examples())) > 10
