"""examples/segmentation.py at a tiny size: better than calling all pixels background; its IoU is scikit-learn's."""

import re
import runpy
import sys

import numpy as np
import pytest

from helpers.paths import ROOT

EXAMPLE = ROOT / "examples" / "segmentation.py"


def test_it_beats_all_background(monkeypatch, capsys):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    options = ["--images", "192", "--test_images", "40", "--size", "24", "--epochs", "4"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    names = runpy.run_path(str(EXAMPLE), run_name="__main__")
    found = re.findall(r"mean IoU ([\d.]+), pixel accuracy ([\d.]+)", capsys.readouterr().out)
    (iou, accuracy), (trivial_iou, trivial_accuracy) = np.array(found, float)
    assert iou > trivial_iou and accuracy > trivial_accuracy

    rng = np.random.default_rng(0)
    masks, predicted = rng.integers(0, 9, (2, 3, 24, 24))
    ious = names["intersection_over_union"](masks.astype("uint8"), predicted, 11)
    expected = metrics.jaccard_score(masks.ravel(), predicted.ravel(), labels=range(9), average=None)
    np.testing.assert_allclose(ious[:9], expected)
    assert np.isnan(ious[9:]).all()
