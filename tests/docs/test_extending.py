"""Rows that docs/extending.md adds to the package's tables from outside work as documented."""

import contextlib
import copy
import re

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT
from helpers.published import publish
from keras_resv2 import cli, pretrained
from keras_resv2.convert import layouts
from keras_resv2.data import DATASETS
from keras_resv2.exporting.formats import FORMATS
from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.shortcuts import SHORTCUTS
from train.config import RunConfig
from train.recipes import RECIPES

PAGE = ROOT / "docs" / "extending.md"
TABLES = (SHORTCUTS, ACTIVATIONS, DATASETS, RECIPES, pretrained.SOURCES, FORMATS, cli.COMMANDS, layouts.PYTORCH)


@contextlib.contextmanager
def tables_as_they_were():
    before = [copy.copy(table) for table in TABLES]
    try:
        yield
    finally:
        for table, rows in zip(TABLES, before, strict=True):
            table.clear()
            table.extend(rows) if isinstance(table, list) else table.update(rows)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Runs the page's examples in a folder with the files that they read; returns their names."""
    numpy_format = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    folder = tmp_path_factory.mktemp("extending")
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 8, 8, 3), dtype="uint8"), np.arange(12) % 2
    np.savez(folder / "shades.npz", x_train=pixels[:8], y_train=labels[:8], x_test=pixels[8:], y_test=labels[8:])
    publish(folder / "store", name="resnet20-shades")
    network = keras_resv2.ResNet(20)
    numpy_format.save_file(renamed(network), folder / "ours.safetensors")
    here = {"__name__": "page"}
    with tables_as_they_were(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), here)
        here["command"] = cli.COMMANDS["cost"]
        here["recipe_is_known"] = RunConfig("resnet20", "short", RECIPES["short"]).recipe
    return {**here, "network": network, "folder": folder, "pixels": pixels}


def renamed(network):
    """The tensors of a network as PyTorch has them, under the names of the page's layout, written out by hand."""
    variables = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
    variables |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    fixed = {"stem_conv": "entry.conv", "stem_bn": "entry.norm", "head_dense": "exit"}
    kinds = {"conv1": "a", "bn1": "a_norm", "conv2": "b", "bn2": "b_norm"}
    tensors = {}
    for layer in network.layers:
        for weight in layer.weights:
            found = re.fullmatch(r"stage(\d)_unit(\d)_(\w+)", layer.name)
            name = fixed.get(layer.name) or f"part{found[1]}.{int(found[2]) - 1}.{kinds[found[3]]}"
            value = keras.ops.convert_to_numpy(weight)
            order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
            tensors[f"{name}.{variables[weight.name]}"] = np.ascontiguousarray(value.transpose(order or (0,)))
    return tensors


def test_every_row_of_the_table_names_something():
    for place in re.findall(r"^\| .*? \| `@?(keras_resv2[\w.]+)` \|", PAGE.read_text(), re.MULTILINE):
        module, _, name = place.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name), place


def test_the_shortcut(page, pixels):
    """y = relu(0.8 x + F(x)), on the second unit of the network."""
    model = page["decayed"]
    unit = "stage1_unit2"
    outputs = [
        model.get_layer(name).output for name in ("stage1_unit1_postact_relu", f"{unit}_bn2", f"{unit}_postact_relu")
    ]
    x, branch, y = keras.Model(model.input, outputs).predict(pixels, verbose=0)
    np.testing.assert_allclose(y, np.maximum(0.8 * x + branch, 0), atol=1e-4)
    assert "decay" not in SHORTCUTS


def test_the_order_of_activations(page):
    names = [
        layer.name.removeprefix("stage2_unit2_") for layer in page["ordered"].layers if "stage2_unit2" in layer.name
    ]
    assert names == ["preact_relu", "conv1", "bn1", "relu1", "conv2", "add", "postact_bn"]


def test_the_dataset(page):
    np.testing.assert_array_equal(page["images"], page["pixels"][8:])
    layer = page["classifier"].get_layer("preprocessing")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(np.full((1, 1, 1, 3), 192.0))).ravel(), 1.0)


def test_the_recipe(page):
    assert page["recipe_is_known"] == "short" and "short" not in RECIPES


def test_the_weight_source(page, pixels):
    directly = keras_resv2.from_pretrained(page["folder"] / "store" / "resnet20-shades" / "1")
    np.testing.assert_allclose(
        page["stored"].predict(pixels, verbose=0), directly.predict(pixels, verbose=0), atol=1e-6
    )


def test_the_layout(page, pixels):
    theirs, ours = (
        keras.Model(model.input, model.get_layer("head_pool").output) for model in (page["network"], page["converted"])
    )
    np.testing.assert_allclose(ours.predict(pixels, verbose=0), theirs.predict(pixels, verbose=0), atol=1e-4)


def test_the_export_format(page):
    assert page["exported"].difference < 1e-5 and page["exported"].path.suffix == ".npz"
    assert np.load(page["folder"] / "classifier.npz")["outputs"].shape[1] == 2


def test_the_command(page, capsys):
    with tables_as_they_were():
        cli.COMMANDS["cost"] = page["command"]
        assert cli.main(["cost", "20"]) == 0
    # Stem; six convolutions at 32x32; one that widens and five at 16x16; the same at 8x8; classifier.
    stem, first, others = 32 * 32 * 9 * 3 * 16, 6 * 32 * 32 * 9 * 16 * 16, 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32)
    assert capsys.readouterr().out.split() == [str(stem + first + 2 * others + 64 * 10)]
