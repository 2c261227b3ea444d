"""Networks drawn as SVG: counts and labels compared with the papers' tables."""

from xml.etree import ElementTree

import keras
import pytest

from keras_resv2 import ResNet, cli
from keras_resv2.models.diagram import network_svg

SVG = "{http://www.w3.org/2000/svg}"


def parse(text):
    """Classes of boxes and arcs, and all texts."""
    root = ElementTree.fromstring(text)
    shapes = [part.get("class", "") for part in root.iter() if part.tag in (f"{SVG}rect", f"{SVG}path")]
    return root, shapes, [part.text for part in root.iter(f"{SVG}text")]


def test_a_network_of_table_1():
    """ResNet-50 of He et al. 2015, Table 1: 3, 4, 6 and 3 units, each first one with a projection."""
    root, shapes, texts = parse(network_svg(ResNet(50)))
    assert shapes.count("unit") == 16
    assert (shapes.count("shortcut"), shapes.count("shortcut projection")) == (12, 4)
    assert {"224 x 224 x 3", "56 x 56 x 256", "28 x 28 x 512", "14 x 14 x 1024", "7 x 7 x 2048", "1000"} <= set(texts)
    assert [text for text in texts if "units" in text and "residual" not in text] == [
        f"{n} units" for n in (3, 4, 6, 3)
    ]
    right = max(float(part.get("x", 0)) + float(part.get("width")) for part in root.iter(f"{SVG}rect"))
    assert right <= float(root.get("viewBox").split()[2])


def test_deep_and_plain_networks():
    """Of 9 units in a stage three are drawn; without shortcuts there are no arcs."""
    _, shapes, texts = parse(network_svg(ResNet(56)))
    assert shapes.count("unit") == 9 and texts.count("9") == 3 and texts.count("9 units") == 3
    _, shapes, _ = parse(network_svg(ResNet(8, shortcut="none")))
    assert shapes.count("unit") == 3 and not any("shortcut" in kind for kind in shapes)
    with pytest.raises(ValueError, match="no residual units"):
        network_svg(keras.Model(x := keras.Input((4,)), keras.layers.Dense(2)(x)))


def test_command(tmp_path, capsys):
    assert cli.main(["summary", "resnet20-cifar10", "--svg", str(tmp_path / "x.svg")]) == 0
    assert "269,722" in capsys.readouterr().out
    assert "32 x 32 x 16" in parse((tmp_path / "x.svg").read_text())[2]
    assert cli.main(["summary", "resnet20", "--svg", str(tmp_path / "missing/x.svg")]) == 2
    assert "missing" in capsys.readouterr().err


def test_rolled_networks_are_refused():
    with pytest.raises(ValueError, match="is rolled"):
        network_svg(ResNet(20, rolled=True))
