"""Rows of CIFAR weights of tf2cv, pytorchcv and chenyaofo: compared with pytorchcv's table, and loaded by name."""

import csv
import hashlib
import io
import json
import re
import shutil
import zipfile

import h5py
import numpy as np
import pytest
from test_applications import server  # noqa: F401

import keras_resv2
from helpers.comparing import assert_same, randomised, run_torch
from helpers.paths import ROOT
from keras_resv2 import cli
from keras_resv2.convert.layouts import tf2cv
from keras_resv2.models.weights import model_arrays
from keras_resv2.storage import local
from keras_resv2.storage.card import read_card

THIRD_PARTY = ROOT / "keras_resv2/storage/third_party"
TF2CV = keras_resv2.list_pretrained("*_tf2cv-cifar*")
WIDE = keras_resv2.list_pretrained("wide_*_pytorchcv-cifar*")
CHENYAOFO = keras_resv2.list_pretrained("*_chenyaofo-cifar*")


def test_rows_are_those_of_pytorchcv():
    """tf2cv's networks are those of pytorchcv, by the same author, in other files."""
    pytorchcv = pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    table = f"{pytorchcv.__path__[0]}/models/common/model_metainfos.csv"
    with open(table, newline="") as file:
        theirs = {row["model_name"]: row for row in csv.DictReader(file)}
    published = {name for name, row in theirs.items() if re.fullmatch(r"(pre)?resnet\d+(bn)?_cifar100?", name)}
    assert len(TF2CV) == 31
    for name in TF2CV:
        card = keras_resv2.pretrained_card(name)
        file, error, digits = card.origin["file"].removesuffix(".tf2.h5").split("-")
        published.remove(file)
        row = theirs[file]
        assert card.origin["reported_error"] == int(error) / 100 == int(row["error_value"]) / 100, name
        assert card.parameters == int(row["net_weights"]), name
        assert card.origin["sha1"].startswith(digits) and card.origin["url"].endswith(f"/{card.origin['file']}.zip")
        assert card.architecture == re.sub("^pre", "preact_", file.split("_")[0].removesuffix("bn"))
        assert card.dataset == file.split("_")[1] and len(card.class_names) == int(card.dataset.removeprefix("cifar"))
    assert published == {"preresnet1202_cifar100"}  # whose weights do not exist


def test_wide_rows_are_those_of_pytorchcv():
    pytorchcv = pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    with open(f"{pytorchcv.__path__[0]}/models/common/model_metainfos.csv", newline="") as file:
        theirs = {row["model_name"]: row for row in csv.DictReader(file)}
    published = {name for name in theirs if re.fullmatch(r"wrn\d+_\d+_cifar100?", name)}
    assert len(WIDE) == len(published) == 6
    for name in WIDE:
        card = keras_resv2.pretrained_card(name)
        row = theirs[f"{card.architecture.replace('wide_resnet', 'wrn')}_{card.dataset}"]
        file = f"{row['model_name']}-{row['error_value']}-{row['checksum'][:8]}.pth"
        assert (card.origin["file"], card.origin["sha1"]) == (file, row["checksum"])
        assert card.origin["url"].endswith(f"/osmr/imgclsmob/releases/download/{row['repo_release_tag']}/{file}.zip")
        assert card.origin["reported_error"] == int(row["error_value"]) / 100
        assert card.parameters == int(row["net_weights"]), name


def test_a_wide_row_is_fetched_and_converted(publish, server, pixels):  # noqa: F811
    """With a smaller network, built by pytorchcv's own code."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    wrn_cifar = pytest.importorskip("pytorchcv.models.wrn_cifar", reason="pytorchcv is not installed")
    theirs = wrn_cifar.get_wrn_cifar(num_classes=100, blocks=10, width_factor=2).eval()
    content = io.BytesIO()
    torch.save(theirs.state_dict(), content)
    content, name = content.getvalue(), "wide_resnet16_10_pytorchcv-cifar100"
    file = keras_resv2.pretrained_card(name).origin["file"]
    small = {"architecture": "wide_resnet10_2", "parameters": sum(p.numel() for p in theirs.parameters())}
    publish(name, file, zipped(file, content), {"sha1": hashlib.sha1(content).hexdigest()}, **small)
    ours = keras_resv2.from_pretrained(name, classifier_activation=None)
    mean, std = (np.array(values) for values in keras_resv2.pretrained_card(name).arguments["preprocessing"])
    expected = run_torch(torch, theirs, ((pixels - mean) / std).astype("float32"))
    assert_same(ours.predict(pixels, verbose=0), expected)
    assert server.requests == [f"/{file}.zip"]


def test_rows_of_chenyaofo():
    assert len(CHENYAOFO) == 8
    for name in CHENYAOFO:
        card = keras_resv2.pretrained_card(name)
        assert card.origin["url"].endswith(f"/{card.origin['file']}")
        assert re.fullmatch(rf"{card.dataset}_{card.architecture}-[0-9a-f]{{8}}\.pt", card.origin["file"])
        assert 5 < card.origin["reported_error"] < 8 or card.dataset == "cifar100"
        assert card.parameters == {20: 272474, 32: 466906, 44: 661338, 56: 855770}[int(card.architecture[6:])] + (
            5850 if card.dataset == "cifar100" else 0
        )


@pytest.fixture
def publish(tmp_path, monkeypatch, server):  # noqa: F811
    """A function that serves a file here in place of that of a row."""

    def published(name, file, content, checksum, **changes):
        shutil.copytree(THIRD_PARTY / name, tmp_path / "rows" / name, dirs_exist_ok=True)
        path = tmp_path / "rows" / name / "1/card.json"
        card = json.loads(path.read_text())
        ending = ".zip" if card["origin"]["url"].endswith(".zip") else ""
        server.files = {f"/{file}{ending}": content}
        card |= changes
        card["origin"] |= {"file": file, "url": f"{server.root}/{file}{ending}", **checksum}
        path.write_text(json.dumps(card))
        monkeypatch.setattr(local, "weight_folders", lambda: [local.home() / "weights", tmp_path / "rows"])

    return published


def file_of_tf2cv(model, layout):
    """Bytes of a weight file as TensorFlow's Keras writes it for tf2cv: two layers, names with a stage twice."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = ["features", "output1"]
        groups = {"features": {}, "output1": {}}
        for name, array in model_arrays(model).items():
            key = re.sub(r"/(stage\d)/", r"/\1/\1/", layout.key(name))
            group = "output1" if key.startswith("output1/") else "features"
            groups[group][f"{key}:0" if group == "output1" else f"features/{key}:0"] = array
        for name, arrays in groups.items():
            file.create_group(name).attrs["weight_names"] = list(arrays)
            for key, array in arrays.items():
                file[name][key] = array
        file.create_group("top_level_model_weights").attrs["weight_names"] = []
    return content.getvalue()


def zipped(name, content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize("name", ["resnet20_tf2cv-cifar100", "preact_resnet164_tf2cv-cifar10"])
def test_a_row_of_tf2cv_is_fetched_and_converted_once(name, publish, server, pixels, tmp_path, capsys):  # noqa: F811
    """No PyTorch is needed; the archive is not kept."""
    row = read_card(THIRD_PARTY / name / "1/card.json")
    theirs = randomised(keras_resv2.build(row.architecture, classes=len(row.class_names), **row.arguments))
    (layout,) = (one for one in tf2cv.LAYOUTS if one.stem_kernel == 3 and one.activation == theirs_activation(row))
    content = file_of_tf2cv(theirs, layout)
    file = row.origin["file"]
    publish(name, file, zipped(file, content), {"sha1": hashlib.sha1(content).hexdigest()})
    ours = keras_resv2.from_pretrained(name, classifier_activation=None)
    expected = keras_resv2.build(
        row.architecture, classes=len(row.class_names), classifier_activation=None, **row.arguments
    )
    expected.set_weights(theirs.get_weights())
    assert_same(ours.predict(pixels, verbose=0), expected.predict(pixels, verbose=0), 1e-5)
    assert server.requests == [f"/{file}.zip"]
    card = keras_resv2.pretrained_card(name)
    assert card.folder.is_relative_to(local.home()) and card.arguments == row.arguments and card.test_error is None
    assert card.class_names == row.class_names and card.origin["reported_error"] == row.origin["reported_error"]
    kept = {path.name for path in card.folder.iterdir() if path.suffix != ".lock"}
    assert kept == {"weights.h5", "card.json"}
    labels = np.arange(len(pixels))
    np.savez(tmp_path / "data.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    assert cli.main(["evaluate", name, "--data_dir", str(tmp_path / "data.npz")]) == 0
    said = f"Its authors report {card.origin['reported_error']:.2f} % (tf2cv 0.0.18; the best epoch on the test images)"
    assert said in capsys.readouterr().out and len(server.requests) == 1


def theirs_activation(row):
    return "full_preactivation" if row.architecture.startswith("preact") else "original"


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda file, content: zipped(file, content + b"x"), "the checksum of .* differs"),
        (lambda file, content: zipped("other.h5", content), "does not contain"),
        (lambda file, content: content, "damaged zip"),
    ],
)
def test_another_archive_is_refused_and_not_kept(damage, words, publish):
    name, content = "resnet20_tf2cv-cifar10", b"weights"
    file = keras_resv2.pretrained_card(name).origin["file"]
    publish(name, file, damage(file, content), {"sha1": hashlib.sha1(content).hexdigest()})
    with pytest.raises(ValueError, match=words):
        keras_resv2.from_pretrained(name)
    assert not [path for path in local.home().rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_row_of_chenyaofo(publish, server, pixels):  # noqa: F811
    """Its networks have projections of option B, and names as torchvision's; the file is PyTorch's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = small_network(torch)
    content = io.BytesIO()
    torch.save(theirs.state_dict(), content)
    content = content.getvalue()
    file = f"cifar100_resnet20-{hashlib.sha256(content).hexdigest()[:8]}.pt"
    publish("resnet20_chenyaofo-cifar100", file, content, {})
    card = keras_resv2.pretrained_card("resnet20_chenyaofo-cifar100")
    mean, std = (np.array(values, "float32") for values in card.arguments["preprocessing"])
    expected = run_torch(torch, theirs, (pixels.astype("float32") - mean) / std)
    ours = keras_resv2.from_pretrained(card.name, classifier_activation=None)
    assert_same(ours.predict(pixels, verbose=0), expected, 1e-4)


def small_network(torch):
    """A CIFAR network of 20 layers in PyTorch, by what its author's state dicts contain."""
    nn = torch.nn

    class Unit(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            if stride > 1:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            for stage, (channels, filters) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
                units = [Unit(channels, filters, 1 + (stage > 1)), Unit(filters, filters, 1), Unit(filters, filters, 1)]
                setattr(self, f"layer{stage}", nn.Sequential(*units))
            self.fc = nn.Linear(64, 100)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
            return self.fc(x.mean(dim=(2, 3)))

    torch.manual_seed(0)
    network = Network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network
