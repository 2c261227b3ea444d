"""The examples of docs/export.md run as printed, with the same outputs as Keras."""

import importlib.util
import re
import sys
import types

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT

PAGE = ROOT / "docs" / "export.md"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the page writes SavedModel and TFLite")
def test_the_examples_run(tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    if importlib.util.find_spec("ai_edge_litert") is None:  # TensorFlow's interpreter, as the page says
        import tensorflow as tf

        stand_in = types.ModuleType("ai_edge_litert.interpreter")
        stand_in.Interpreter = tf.lite.Interpreter
        monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", stand_in)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pixels, train_images = (rng.integers(0, 256, (count, 32, 32, 3), dtype="uint8") for count in (8, 40))
    expected = keras_resv2.from_pretrained("resnet20-cifar10").predict(pixels, verbose=0)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    here, compared = {"pixels": pixels, "train_images": train_images}, 0
    for block in blocks:
        if "hf://" in block:  # tests/hub/test_hub.py
            continue
        here.pop("probabilities", None)
        exec(compile(block, PAGE.name, "exec"), here)
        if "probabilities" in here:
            np.testing.assert_allclose(here["probabilities"], expected, atol=1e-5)
            compared += 1
    assert compared == 3
    assert tuple(here["class_names"]) == keras_resv2.pretrained_card("resnet20-cifar10").class_names
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {
        *("resnet20", "resnet20.onnx", "resnet20.tflite", "resnet20.labels.txt", "switched.onnx"),
        *("resnet20-half.tflite", "resnet20-int8.tflite"),
    }
