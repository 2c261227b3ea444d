"""Figures: no legend covers a curve, every panel has a title, missing numbers are not drawn as numbers."""

import types

import numpy as np
import pytest

from keras_resv2.analysis import plots
from keras_resv2.analysis.lesions import Deletions, RandomDeletions, Reorderings
from keras_resv2.analysis.paths import PathGradients

figures = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")

UNITS = 15
KINDS = ("identity", "constant_scaling", "exclusive_gating(bias=-6)", "shortcut_only_gating(bias=-6)", "none")
NAMES = [f"resnet110-{kind}" for kind in KINDS]
rng = np.random.default_rng(0)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, laid out."""
    saved = []
    original = figures.Figure.savefig

    def savefig(figure, *arguments, **options):
        original(figure, *arguments, **options)
        saved.append(figure)

    monkeypatch.setattr(figures.Figure, "savefig", savefig)
    return saved


def walk():
    return np.exp(rng.normal(0, 1, UNITS).cumsum())


def propagation(path):
    norms = ("variance", "gradient_norm", "straight_norm", "predicted_norm")
    study = lambda: types.SimpleNamespace(units=range(UNITS), **{name: walk() for name in norms})  # noqa: E731
    plots.draw_propagation({name: study() for name in NAMES}, path)


def deletions(path):
    errors = np.where(np.arange(UNITS) % 5 == 4, np.nan, rng.uniform(5, 95, UNITS))  # nothing is left to compute
    study = Deletions("resnet20", 100, 15.0, [f"unit{i}" for i in range(UNITS)], errors, np.isnan(errors), 1, 1)
    plots.draw_deletions(dict.fromkeys(NAMES, study), path)


def random_deletions(path):
    deleted = np.repeat(np.arange(1, UNITS + 1), 5)
    plots.draw_random_deletions(RandomDeletions("resnet20", 9, 8.0, deleted, deleted * 6.0, [], 1, 1), path, "plain")


def reorderings(path):
    swaps, errors = np.arange(50), rng.uniform(5, 95, 50)
    plots.draw_reorderings(Reorderings("resnet20", 9, 8.0, swaps, 1 - swaps / 99, errors, [], 1, 1), path, "plain")


def paths(path):
    lengths = np.repeat(np.arange(UNITS + 1), 4)
    plots.draw_paths(PathGradients("resnet32", UNITS, lengths, np.exp(-0.4 * lengths), 1.0), path, "resnet32-cifar10")


def curve(path):
    from train.callbacks import draw_curve

    rows = [{"step": step, "train_loss": 1 / step, "test_error": 90 / step} for step in range(1, 40)]
    draw_curve(rows, path, "resnet20-cifar10@1")


def fine_tuning(path):
    from keras_resv2.transfer.run_report import draw_history

    numbers = {f"{images}_{what}": 0.5 for images in ("train", "validation") for what in ("loss", "error")}
    history = [{"phase": "body", "epoch": epoch, "best": epoch == 3, **numbers} for epoch in range(1, 6)]
    draw_history([{"phase": "classifier", "epoch": 1, "best": False, **numbers}, *history], path, "three classes")


def transfer(path):
    from benchmarks.transfer import WAYS, draw

    rows = [
        {
            "dataset": dataset,
            "images": str(images),
            "way": way,
            "test_error": str(rng.uniform(5, 50)),
            "network": "ours",
        }
        for dataset in ("digits", "emoji")
        for images in (100, 1000)
        for way in WAYS
    ]
    draw(rows, path)


def table(path):
    from train.paper_tables import report

    runs = {"runs": [{"error": 6.5}], "median": 6.5}
    other = {"way": "fast, 10 epochs", **runs}
    cells = [{"name": "identity", "paper": 6.61, "dataset": "cifar10", "reproduction": runs, "other_recipes": [other]}]
    report.draw({"title": "Table 1", "cells": cells}, path)


ALL = [propagation, deletions, random_deletions, reorderings, paths, curve, fine_tuning, transfer, table]


@pytest.mark.parametrize("draw", [draw for draw in ALL if draw is not table])  # whose legend is beside its bars
def test_legends_cover_nothing_and_panels_have_titles(drawn, tmp_path, draw):
    draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    assert any(axes.get_title() for axes in figure.axes) and not any(axes.get_legend() for axes in figure.axes)
    panels = [axes for axes in figure.axes if not (draw is curve and axes is figure.axes[1])]  # a second scale
    assert all(axes.get_title() and axes.get_xlabel() for axes in panels)
    shared = draw is transfer  # one label for all panels
    assert all(axes.get_ylabel() for axes in panels[: 1 if shared else None])
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    for axes in panels:  # nothing of a title is cut off
        assert axes.title.get_window_extent().x1 <= figure.bbox.width


@pytest.mark.parametrize("draw", ALL)
def test_colors_are_those_that_everyone_tells_apart(drawn, tmp_path, draw):
    """Of Okabe and Ito 2008, or grey."""
    from matplotlib.colors import to_hex

    okabe_ito = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}
    draw(tmp_path / "figure.png")
    for axes in drawn[0].axes:
        used = [line.get_color() for line in axes.get_lines()] + [patch.get_facecolor() for patch in axes.patches]
        used += [color for marks in axes.collections for color in marks.get_facecolor()]
        for color in map(to_hex, used):
            assert color in okabe_ito or len({color[1:3], color[3:5], color[5:7]}) == 1, color


def test_the_plain_network_is_not_called_by_the_name_of_the_residual_one(drawn, tmp_path):
    random_deletions(tmp_path / "a.png")
    reorderings(tmp_path / "b.png")
    assert [figure.axes[0].get_title().split(": ")[1] for figure in drawn] == ["plain", "plain"]


def test_what_fails_in_the_paper_is_a_word_and_not_a_bar(drawn, tmp_path):
    from train.paper_tables import report

    runs = {"runs": [{"error": 90.0}], "median": 90.0}
    cells = [
        {"name": name, "paper": paper, "dataset": "cifar10", "reproduction": runs, "other_recipes": []}
        for name, paper in (("identity", 6.61), ("dropout", None))
    ]
    report.draw({"title": "Table 1", "cells": cells}, tmp_path / "table.png")
    (axes,) = drawn[0].axes
    (bar,) = axes.containers[0].patches
    assert bar.get_width() == 6.61 and [text.get_text() for text in axes.texts] == ["paper: fails"]
    assert axes.texts[0].get_position()[1] == 1 and max(axes.get_xticks()) == 20
