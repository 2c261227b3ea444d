"""The code of docs/dense.md runs, and its models are what the page says."""

import re

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT

BACKBONE, HEAD, KERAS_HUB = re.findall(r"```python\n(.*?)```", (ROOT / "docs/dense.md").read_text(), re.DOTALL)


def test_a_segmentation_head():
    names = {"keras": keras, "keras_resv2": keras_resv2}
    exec(BACKBONE, names)
    assert list(names["backbone"].output) == ["stage1", "stage2", "stage3"]
    exec(HEAD, names)
    model = names["segmentation_model"](names["network"], 5)
    assert model(np.zeros((1, 48, 32, 3), "uint8")).shape == (1, 48, 32, 5)


def test_keras_hub_takes_the_backbone(tmp_path):
    hub = pytest.importorskip("keras_hub", reason="keras_hub is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("docs/dense.md is about TensorFlow")
    names = {"keras": keras, "keras_hub": hub, "keras_resv2": keras_resv2}
    exec(KERAS_HUB, names)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("float32")
    outputs = names["segmenter"].predict(images, verbose=0)
    assert outputs.shape == (1, 64, 64, 3) and np.ptp(outputs) > 0
    names["segmenter"].save(tmp_path / "segmenter.keras")
    opened = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_allclose(opened.predict(images, verbose=0), outputs, atol=1e-5)
