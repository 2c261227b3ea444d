"""timm repositories on the Hub: written by timm's own code, served here, compared with timm's outputs."""

import json
import pathlib

import numpy as np
import pytest
from test_hub import server  # noqa: F401

import keras_resv2
from keras_resv2 import hub
from keras_resv2.hub import timm as timm_repositories
from keras_resv2.storage import download
from keras_resv2.storage import local as store

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def timm(torchvision):
    return pytest.importorskip("timm", reason="timm is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESV2_HOME", str(tmp_path / "home"))


def save(timm, server, name, repository, folder, **options):  # noqa: F811
    """A network of timm with random weights and statistics, as a repository; the network."""
    torch.manual_seed(0)
    config = options.pop("config", None)
    model = timm.create_model(name, pretrained=False, **options).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    timm.models.save_for_hf(model, folder, model_config=config, safe_serialization=True)
    files = {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}
    server.repositories[repository] = []
    server.commit(repository, files)
    return model


def logits_of(model, pixels, mean, std):
    x = (pixels.astype("float32") / 255 - np.array(mean, "float32")) / np.array(std, "float32")
    with torch.no_grad():
        return model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype="uint8")


def test_a_named_network_is_converted_once(timm, server, images, tmp_path, monkeypatch):  # noqa: F811
    """resnet18-imagenet is such a repository; also by its own name; then without the Hub."""
    theirs = save(timm, server, "resnet18.a1_in1k", "timm/resnet18.a1_in1k", tmp_path / "theirs")
    expected = logits_of(theirs, images, MEAN, STD)
    ours = keras_resv2.from_pretrained("resnet18-imagenet", input_shape=(64, 64, 3), classifier_activation=None)
    assert_close(ours.predict(images, verbose=0), expected)
    card = keras_resv2.pretrained_card("resnet18-imagenet")
    assert card.origin["hub"] == "timm/resnet18.a1_in1k" and card.test_error is None and "apache" in card.license
    assert card.origin["reported_error"] == 28.496 and card.class_index["classes"] == 1000 and card.sha256

    direct = hub.pull("hf://timm/resnet18.a1_in1k")
    assert direct.architecture == "resnet18" and direct.dataset == "imagenet" and direct.image_shape == (224, 224, 3)
    assert direct.origin["crop_pct"] == 0.95 and direct.origin["tag"] == "a1_in1k"
    assert direct.origin["commit"] == server.files("timm/resnet18.a1_in1k")[0]
    before = len(server.requests)
    again = keras_resv2.from_pretrained("resnet18-imagenet", input_shape=(64, 64, 3), classifier_activation=None)
    assert len(server.requests) == before
    np.testing.assert_array_equal(again.predict(images, verbose=0), ours.predict(images, verbose=0))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(download, "file_lock", lambda path: pytest.fail("nothing needs to be written"))
    assert hub.pull("hf://timm/resnet18.a1_in1k") == direct


def test_custom_classes_pixels_and_names(timm, server, images, tmp_path):  # noqa: F811
    """A fine-tuned resnetv2_18, at a requested revision."""
    config = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "dog", "n3": "fox"}}
    theirs = save(timm, server, "resnetv2_18", "me/pets", tmp_path / "theirs", num_classes=3, config=config)
    commit, files = server.files("me/pets")
    server.commit("me/pets", {"config.json": b"{}"})
    model = keras_resv2.from_pretrained(f"hf://me/pets@{commit}", input_shape=(64, 64, 3), classifier_activation=None)
    saved = json.loads(files["config.json"])["pretrained_cfg"]
    expected = logits_of(theirs, images, saved["mean"], saved["std"])
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )
    card = keras_resv2.pretrained_card(f"hf://me/pets@{commit}")
    assert card.class_names == ("cat", "dog", "fox") and card.architecture == "preact_resnet18"
    assert card.arguments["preprocessing"] == "tf"  # 0.5 and 0.5
    with pytest.raises(ValueError, match="neither a keras-resv2 card nor"):
        hub.pull("hf://me/pets")


CONFIG = {
    "architecture": "resnet18",
    "num_classes": 10,
    "pretrained_cfg": {"tag": "mine", "input_size": [3, 224, 224], "mean": list(MEAN), "std": list(STD)},
}


@pytest.mark.parametrize("change, says", [
    ({"architecture": "resnet50d"}, "resnet50d.*does not build; did you mean resnet50,"),
    ({"architecture": "vit_base_patch16_224"}, "does not build"),
    ({"model_args": {"output_stride": 8}}, "output_stride=8, which"),
    ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "mean": [0.5]}}, "mean .* must be three numbers"),
    ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "input_size": [1, 28, 28]}}, "1 channels"),
    ({"label_names": ["a", "b"]}, "names 2 of 10 classes"),
    ({"label_names": 5}, "label_names .* must be texts"),
    ({"label_names": [["a"]] * 10, "label_descriptions": {"a": "b"}}, "label_names .* must be texts"),
    ({"model_args": ["drop_rate"]}, "neither a keras-resv2 card"),
    ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "input_size": [3, float("inf"), 9]}}, "input_size .* three"),
    ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "mean": [10**400, 1, 1]}}, "mean .* must be three numbers"),
    ({"num_classes": "many"}, "neither a keras-resv2 card"),
    ({}, "does not contain model.safetensors"),
])  # fmt: skip
def test_repositories_that_are_refused(change, says, server):  # noqa: F811
    server.repositories["me/odd"] = []
    server.commit("me/odd", {"config.json": json.dumps({**CONFIG, **change}).encode()})
    with pytest.raises(ValueError, match=says):
        hub.pull("hf://me/odd")
    assert not list(store.home().glob("**/card.json"))


def test_every_named_row_is_a_network_of_timm(timm):
    """Architecture and pixel statistics of each row are those of timm's own table."""
    cards = [keras_resv2.pretrained_card(name) for name in keras_resv2.list_pretrained("*-imagenet")]
    rows = {card.name: card for card in cards if "hub" in card.origin}
    assert {"resnet18-imagenet", "resnet34-imagenet", "preact_resnet50_a1h-imagenet"} <= rows.keys() and len(rows) >= 13
    for name, card in rows.items():
        theirs = timm.get_pretrained_cfg(card.origin["hub"].removeprefix("timm/"))
        assert timm_repositories.ARCHITECTURES[theirs.architecture] == card.architecture, name
        assert card.arguments["preprocessing"] == ("torch" if theirs.mean == MEAN else "tf"), name
        assert theirs.license in card.license and theirs.num_classes == 1000
        # The reported errors are those of images of 224 pixels, which some networks are only tested with.
        of_tests = theirs.test_input_size == (3, 224, 224)
        assert card.image_shape == (224, 224, 3) and "224 pixels" in card.origin["reported_by"]
        assert card.origin["crop_pct"] == (theirs.test_crop_pct if of_tests else theirs.crop_pct), name
        assert card.origin["interpolation"] == theirs.interpolation, name
