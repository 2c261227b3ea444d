"""The code of docs/fit.md runs, on a few images and steps."""

import re

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT

DATA, FIT = re.findall(r"```python\n(.*?)```", (ROOT / "docs/fit.md").read_text(), re.DOTALL)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="docs/fit.md uses tf.data")
def test_the_examples_run(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (384, 32, 32, 3), "uint8"), rng.integers(0, 10, (384, 1))
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((images, labels), (images[:64], labels[:64])))
    names = {}
    exec(DATA, names)
    shifted, label = next(iter(names["train"].unbatch().take(1)))
    assert shifted.shape == (32, 32, 3) and shifted.dtype == "uint8" and label.shape == (1,)
    assert len(names["train"]) == 3
    exec(FIT.replace("epochs=164", "epochs=1").replace("PreActResNet20()", "ResNet(8)"), names)
    assert names["steps"] == 3 * 164 and float(names["model"].optimizer.iterations) == 3
    assert type(names["model"].optimizer) is keras_resv2.SGD and 0 <= names["error"] <= 100
