"""`keras-resv2 evaluate` on images from disk: views, class folders, and the authors' settings on the card."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.published import publish
from keras_resv2 import cli

CLASSES = tuple(f"class{i}" for i in range(10))
COLORS = np.random.default_rng(1).integers(0, 256, (12, 3), dtype="uint8")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Weight folder of a network of ten classes, of a dataset whose images are streamed."""
    folder = tmp_path_factory.mktemp("weights")
    origin = {"layout": "timm", "file": "model.safetensors", "hub": "timm/x", "crop_pct": 0.9, "reported_error": 12.5}
    publish(
        folder, name="resnet8-imagenette", dataset="imagenette", class_names=CLASSES, image_shape=(36, 36, 3),
        test_error=None, origin=origin, parameters=78_666,
    )  # fmt: skip
    return folder / "resnet8-imagenette" / "1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images, each of a single color and a different size, in folders of three classes."""
    root = tmp_path_factory.mktemp("images")
    for i, color in enumerate(COLORS):
        place = root / CLASSES[i % 3]
        place.mkdir(exist_ok=True)
        Image.new("RGB", (50 + i, 70 - i), tuple(map(int, color))).save(place / f"{i}.png")
    return root


def error_by_hand(network, size):
    """Every crop of an image of one color has that color."""
    images = np.broadcast_to(COLORS[:, None, None], (12, size, size, 3))
    scores = keras_resv2.from_pretrained(network, input_shape=(None, None, 3)).predict(images, verbose=0)
    return 100 * np.mean(scores.argmax(1) != np.arange(12) % 3)


def test_the_views_are_those_of_the_cards_source(network, folder, capsys):
    assert cli.main(["evaluate", str(network), "--data_dir", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured_errors"] == {"40:36": pytest.approx(error_by_hand(network, 36))}  # 36 / 0.9
    assert found["images"] == 12 and found["interpolation"] == "bilinear" and found["reported_error"] == 12.5


def test_views_may_be_given(network, folder, capsys):
    arguments = ["evaluate", str(network), "--data_dir", str(folder), "--views", "48:32", "64:64"]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"{error_by_hand(network, 32):.2f} % of 12 images, center crop of 32 pixels from a shorter side of 48"
        in lines[0]
    )
    assert "crop of 64 pixels" in lines[1] and lines[2].startswith("Its authors report 12.50 %")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--views", "32:48"], "SIDE:CROP"),
        (["--views", "big"], "SIDE:CROP"),
        (["--full"], "for small datasets"),
    ],
)
def test_export_errors_are_one_line(network, folder, capsys, arguments, words):
    assert cli.main(["evaluate", str(network), "--data_dir", str(folder), *arguments]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_folders_of_other_classes_are_refused(network, tmp_path, capsys):
    for name in ("class1", "daisy"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / name / "0.png")
    assert cli.main(["evaluate", str(network), "--data_dir", str(tmp_path)]) == cli.BAD_INPUT
    assert "daisy" in capsys.readouterr().err


@pytest.mark.parametrize("fraction", ["0.9", -1, 0, 1.5, True, [0.9]])
def test_a_crop_fraction_that_is_none_is_one_line(network, folder, tmp_path, capsys, fraction):
    """A card may come from a stranger."""
    place = tmp_path / "resnet8-imagenette" / "1"
    shutil.copytree(network, place)
    card = json.loads((place / "card.json").read_text())
    card["origin"]["crop_pct"] = fraction
    (place / "card.json").write_text(json.dumps(card))
    assert cli.main(["evaluate", str(place), "--data_dir", str(folder)]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert "crop fraction" in error and error.count("\n") == 1
