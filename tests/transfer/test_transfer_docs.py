"""The examples of docs/transfer.md run as they stand, on real digits."""

import re

import numpy as np

from helpers.paths import ROOT

PAGE = ROOT / "docs" / "transfer.md"


def test_the_examples_run(digits, monkeypatch, tmp_path):
    from keras_resv2.transfer import cross_validation, fine_tuning

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cross_validation, "FEW", 0)  # for time
    monkeypatch.setattr(fine_tuning, "STEPS", 1)
    monkeypatch.setattr(fine_tuning, "EPOCHS", (1, 1))
    (images, labels), (test_images, _) = digits
    labels = labels % 5
    here = {
        "images": images[:80],
        "labels": labels[:80],
        "gray_images": images[:80, ::2, ::2, 0],
        "test_images": test_images,
    }
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), here)
    assert here["probabilities"].shape == (len(test_images), 5)
    assert [row["phase"] for row in here["history"]][:2] == ["head", "body"]
    assert all(layer.trainable for layer in here["model"].layers)
    assert here["positions"][:, 0].tolist() == [0, 1, 2] and np.allclose(here["similarities"][:, 0], 1)
