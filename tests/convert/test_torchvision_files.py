"""Rows of torchvision's files: compared with torchvision's own table, served here, and read without PyTorch."""

import hashlib
import importlib.util
import json
import shutil

import numpy as np
import pytest
from test_applications import server  # noqa: F401

import keras_resv2
from helpers.comparing import images, run_torch
from keras_resv2.labels import class_names
from keras_resv2.storage import local

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
NAMES = keras_resv2.list_pretrained("*_tv-imagenet")


def test_rows_are_those_of_torchvision(torchvision):
    assert len(NAMES) == 7
    for name in NAMES:
        card = keras_resv2.pretrained_card(name)
        theirs = torchvision.models.get_model_weights(card.architecture)["IMAGENET1K_V1"]
        view = theirs.transforms()
        assert card.origin["url"] == theirs.url and theirs.url.endswith("/" + card.origin["file"])
        assert card.origin["reported_error"] == pytest.approx(100 - theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"])
        assert card.parameters == theirs.meta["num_params"]
        assert card.origin["crop_pct"] == view.crop_size[0] / view.resize_size[0]
        assert card.image_shape[:2] == (view.crop_size[0],) * 2 and card.arguments == {"preprocessing": "torch"}


def test_class_names_of_imagenet_need_no_download(torchvision):
    """They are in the package; torchvision's list differs where two classes have the same name."""
    names = class_names(keras_resv2.pretrained_card("resnet50-imagenet"))
    theirs = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    pairs = zip(names, (name.replace(" ", "_") for name in theirs), strict=True)
    assert [pair for pair in pairs if len(set(pair)) > 1] == [("crane", "crane_bird"), ("maillot", "maillot_tank_suit")]
    assert names[134] == names[517] and names[638] == names[639]
    decoded = keras_resv2.decode_predictions(np.eye(1000)[[1]], "resnet18_tv-imagenet", top=1)
    assert decoded == [[("goldfish", 1.0)]]


@pytest.fixture
def row(torchvision, tmp_path, monkeypatch, server):  # noqa: F811
    """A row of the package whose file is served here: random weights under the name that PyTorch gives them."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    path = tmp_path / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    content = path.read_bytes()
    file = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files = {f"/{file}": content}
    source = next(folder for folder in local.weight_folders() if folder.name == "third_party")
    shutil.copytree(source / "resnet18_tv-imagenet", tmp_path / "rows" / "resnet18_tv-imagenet")
    card_path = tmp_path / "rows/resnet18_tv-imagenet/1/card.json"
    card = json.loads(card_path.read_text())
    card["origin"] |= {"url": f"{server.root}/{file}", "file": file}
    card_path.write_text(json.dumps(card))
    monkeypatch.setattr(local, "weight_folders", lambda: [local.home() / "weights", tmp_path / "rows"])
    return theirs, file


def test_a_file_is_fetched_checked_and_converted_once(row, server):  # noqa: F811
    theirs, file = row
    ours = keras_resv2.from_pretrained("resnet18_tv-imagenet", classifier_activation=None)
    pixels = 120 + 50 * images((224, 224))
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    expected = run_torch(torch, theirs, ((pixels - mean) / std).astype("float32"))
    np.testing.assert_allclose(ours.predict(pixels, verbose=0), expected, atol=1e-4 * np.ptp(expected))
    keras_resv2.from_pretrained("resnet18_tv-imagenet")
    assert server.requests == [f"/{file}"]


def test_another_file_is_refused(row, server):  # noqa: F811
    _, file = row
    server.files[f"/{file}"] += b"?"
    with pytest.raises(ValueError, match="not the expected file"):
        keras_resv2.from_pretrained("resnet18_tv-imagenet")


def test_without_pytorch_nothing_is_downloaded(row, server, monkeypatch):  # noqa: F811
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    with pytest.raises(ImportError, match="pip install torch"):
        keras_resv2.from_pretrained("resnet18_tv-imagenet")
    _, file = row
    with pytest.raises(ImportError, match="pip install torch"):
        keras_resv2.convert.from_pytorch(f"{server.root}/{file}")
    assert server.requests == []


def test_a_card_with_neither_checksum_nor_digits_is_refused(row, tmp_path):
    path = tmp_path / "rows/resnet18_tv-imagenet/1/card.json"
    card = json.loads(path.read_text())
    card["origin"]["file"] = "resnet18.pth"
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match="first eight digits of its SHA-256"):
        keras_resv2.pretrained_card("resnet18_tv-imagenet")
