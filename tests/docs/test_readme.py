"""The Python of the README runs as printed."""

import re

import keras
import numpy as np
from PIL import Image

import keras_resv2
from helpers.paths import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_an_image_and_saved_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype="uint8")
    Image.fromarray(pixels).save("cat.jpg")
    names = {}
    exec(BLOCKS[0], names)
    model, image = names["model"], names["image"][None]
    expected = model.predict(image, verbose=0)
    again = keras_resv2.PreActResNet20(weights="mine.h5")
    for other in (keras.models.load_model("mine.keras"), again):
        np.testing.assert_allclose(other.predict(image, verbose=0), expected, atol=1e-6)


def test_other_weights_forms_and_networks():
    names = {"keras_resv2": keras_resv2}
    exec(BLOCKS[1], names)
    assert names["body"].output_shape == (None, 64)
    assert list(names["backbone"].output) == ["stage1", "stage2", "stage3", "stage4"]
