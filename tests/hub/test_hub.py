"""Weights on the Hugging Face Hub: the real client with a fake server, and without one."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from packaging.version import Version

import keras_resv2
from helpers.hub_server import TOKEN, HubServer
from helpers.paths import STRESS
from helpers.published import publish
from keras_resv2 import cli, hub
from keras_resv2.hub import download
from keras_resv2.storage.weight_file import read_weights

hub_client = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
constants = pytest.importorskip("huggingface_hub.constants")

NAME = "resnet20-cifar10"
PLACE = keras_resv2.pretrained_card(NAME).folder


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The fake server; the client is logged in and has its own cache."""
    server = HubServer()
    # The client reads its environment when it is imported, which may have happened.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    for module in (constants, importlib.import_module("huggingface_hub.file_download")):  # its own before 0.26
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # the stand-in has the older protocol
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield server
    server.close()


def client_environment(server, tmp_path, **changes):
    """For a fresh process, whose client reads it itself."""
    own = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "other_home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**os.environ, **own, **changes}


def pull_elsewhere(reference, environment):
    command = [sys.executable, "-m", "keras_resv2", "pull", reference, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_what_is_pushed_comes_back(server, pixels):
    """Every byte, through the client's own protocol; and a network with the same outputs as the local one."""
    reference = hub.push("me/weights", NAME)
    commit, files = server.files("me/weights")
    assert reference == f"hf://me/weights@{commit}"
    for path in PLACE.iterdir():
        assert files[path.name] == path.read_bytes()
    assert any(request.startswith("PUT /large/") for request in server.requests)

    card = hub.pull("hf://me/weights")
    assert card == keras_resv2.pretrained_card(NAME)
    assert sorted(path.name for path in card.folder.iterdir()) == ["card.json", "weights.h5"]
    model = keras_resv2.from_pretrained("hf://me/weights")
    expected = keras_resv2.from_pretrained(NAME).predict(pixels, verbose=0)
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), expected)
    assert keras_resv2.pretrained_card(reference).test_error == card.test_error


def test_the_readme_matches_the_card(server):
    hub.push("me/weights", NAME)
    card = keras_resv2.pretrained_card(NAME)
    text = server.files("me/weights")[1]["README.md"].decode()
    data = hub_client.ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "keras", "image-classification")
    (result,) = data.eval_results
    assert (result.dataset_type, result.metric_type) == ("uoft-cs/cifar10", "accuracy")
    assert result.metric_value == pytest.approx(100 - card.test_error)
    assert f"{card.test_error:.2f} %" in text and "hf://me/weights" in text and card.command in text
    assert data.datasets == ["uoft-cs/cifar10"] and data.base_model is None
    assert "1 runs" not in text


def test_the_readme_of_fine_tuned_weights(server, tmp_path):
    """A dataset that the Hub does not have is not linked; the base model is, if it is on the Hub."""
    origin = {"file": "resnet20-cifar10@2", "sha256": "0" * 64, "layout": "fine-tuned", "assumed": []}
    names = tuple(f"class {number}" for number in range(10))
    publish(tmp_path, name="resnet20-cifar10", class_names=names, origin=origin, test_images=None)
    assert cli.main(["push", str(tmp_path / NAME / "1"), "me/tuned", "--base_model", "me/base"]) == 0
    text = server.files("me/tuned")[1]["README.md"].decode()
    data = hub_client.ModelCard(text).data
    assert data.base_model == "me/base" and data.datasets is None
    assert "fine-tuned from | `resnet20-cifar10@2` ([me/base]" in text
    with pytest.raises(ValueError, match=r"base_model 'resnet20' must be of the form user/name"):
        hub.push("me/tuned", NAME, base_model="resnet20")


@pytest.mark.skipif(Version(keras.__version__) < Version("3.6"), reason="Keras reads the Hub since 3.6")
@pytest.mark.parametrize("text, identifier", [
    ("bsd-3-clause, as timm's repository has it", "bsd-3-clause"), ("MIT (Kaiming He)", "mit"), ("my own", "other"),
])  # fmt: skip
def test_licenses_are_identifiers_of_the_hub(text, identifier, server, tmp_path):
    """The Hub rejects other values; the table has the full text."""
    publish(tmp_path, name="resnet20-cifar10", license=text)
    hub.push("me/licensed", str(tmp_path / NAME / "1"))
    readme = server.files("me/licensed")[1]["README.md"].decode()
    assert hub_client.ModelCard(readme).data.license == identifier and f"| license | {text} |" in readme


def test_a_published_name_takes_precedence_over_a_local_folder(server, tmp_path, monkeypatch):
    """As in all other commands, so that the uploaded weights are those that were measured."""
    publish(tmp_path, name=NAME)
    monkeypatch.chdir(tmp_path)
    hub.push("me/published", NAME)
    assert hub.pull("hf://me/published").sha256 == keras_resv2.pretrained_card(NAME).sha256
    assert keras_resv2.pretrained_card(NAME).sha256 != keras_resv2.pretrained_card(f"./{NAME}").sha256


@pytest.mark.skipif(Version(keras.__version__) < Version("3.6"), reason="Keras reads the Hub since 3.6")
def test_keras_alone_opens_what_is_pushed(server, pixels):
    """The configuration does not contain classes of this package; logits, not saturated probabilities, are compared."""
    hub.push("me/weights", NAME)
    files = server.files("me/weights")[1]
    assert b"keras_resv2" not in files["config.json"]
    model = keras.saving.load_model("hf://me/weights")
    assert model.predict(pixels, verbose=0).sum() == pytest.approx(len(pixels), rel=1e-5)
    model.layers[-1].activation = keras.activations.linear
    expected = keras_resv2.from_pretrained(NAME, classifier_activation=None)(pixels)
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-3, atol=1e-3)


def test_a_folder_that_is_not_published_and_a_revision(server, tmp_path):
    """Custom weights, then better ones: the revision of the first push still returns the first."""
    publish(tmp_path, version=1)
    publish(tmp_path, version=2)
    folders = [tmp_path / NAME / version for version in "12"]
    first, second = (hub.push("me/own", str(folder)) for folder in folders)
    for reference, folder in ((first, folders[0]), (second, folders[1]), ("hf://me/own@main", folders[1])):
        card = hub.pull(reference)
        assert f"{card.version}" == folder.name
        found, expected = (read_weights(place / "weights.h5") for place in (card.folder, folder))
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_a_push_deletes_what_described_the_weights_before(server, tmp_path):
    """The curve of other weights would be beside the new card. Files that `push` does not write stay."""
    publish(tmp_path, version=1)
    publish(tmp_path, version=2)
    folder = tmp_path / NAME
    for name in ("history.csv", "curve.png"):
        (folder / "1" / name).write_bytes(b"of version 1")
    (folder / "2" / "history.csv").write_bytes(b"of version 2")
    first = hub.push("me/own", str(folder / "1"))
    server.commit("me/own", {"notes.txt": b"mine"})
    assert "curve.png" in server.files("me/own")[1]
    hub.push("me/own", str(folder / "2"))
    files = server.files("me/own")[1]
    assert "curve.png" not in files and (files["history.csv"], files["notes.txt"]) == (b"of version 2", b"mine")
    assert hub.pull(first).version == 1
    server.repositories["me/other"] = []
    server.commit("me/other", {"curve.png": b"not by push"})
    hub.push("me/other", str(folder / "2"))
    assert server.files("me/other")[1]["curve.png"] == b"not by push"


def test_a_second_pull_fetches_no_file(server):
    hub.push("me/weights", NAME)
    hub.pull("hf://me/weights")
    before = len(server.requests)
    hub.pull("hf://me/weights")
    assert not [request for request in server.requests[before:] if "/resolve/" in request]


def test_offline_the_cache_serves_and_nothing_else(server, tmp_path):
    """In separate processes, which read HF_HUB_OFFLINE themselves; the server is down."""
    hub.push("me/weights", NAME)
    online = client_environment(server, tmp_path)
    done = pull_elsewhere("hf://me/weights", online)
    assert done.returncode == 0, done.stderr
    server.close()
    offline = {**online, "HF_HUB_OFFLINE": "1"}
    done = pull_elsewhere("hf://me/weights", offline)
    assert done.returncode == 0, done.stderr
    folder = pathlib.Path(json.loads(done.stdout)["folder"])
    assert (folder / "weights.h5").read_bytes() == (PLACE / "weights.h5").read_bytes()

    done = pull_elsewhere("hf://me/others", offline)
    assert done.returncode == cli.BAD_INPUT
    said = "hf://me/others: the Hub cannot be reached because HF_HUB_OFFLINE is set, and the cache has no copy."
    assert done.stderr.strip().splitlines()[-1] == f"keras-resv2: error: {said}"
    done = pull_elsewhere("hf://me/others", online)
    assert done.returncode == cli.BAD_INPUT
    assert "hf://me/others: the Hub cannot be reached" in done.stderr and "the cache has no copy" in done.stderr


def test_no_such_repository_revision_or_card(server):
    server.repositories["me/empty"] = []
    server.commit("me/empty", {"README.md": b"nothing here"})
    with pytest.raises(ValueError, match="there is no hf://me/nothing on the Hub, or it is private"):
        hub.pull("hf://me/nothing")
    with pytest.raises(ValueError, match="does not have this revision"):
        hub.pull("hf://me/empty@v9")
    with pytest.raises(ValueError, match=r"hf://me/empty contains neither card\.json nor"):
        keras_resv2.from_pretrained("hf://me/empty")
    for reference in ("hf://empty", "hf://me/empty@", "hf://", "me/empty"):
        with pytest.raises(ValueError, match="must be of the form hf://user/name"):
            hub.pull(reference)


def test_a_damaged_file_is_not_used(server):
    hub.push("me/weights", NAME)
    content = bytearray((PLACE / "weights.h5").read_bytes())
    content[len(content) // 2] ^= 1
    server.commit("me/weights", {"weights.h5": bytes(content)})
    with pytest.raises(
        ValueError, match=r"hf://me/weights: weights\.h5 is damaged, its SHA-256 does not match the card"
    ):
        keras_resv2.from_pretrained("hf://me/weights")


@pytest.mark.parametrize("name, size", [("card.json", 5 << 20), ("weights.h5", 5 << 20), ("weights.h5", 10)])
def test_sizes_are_checked_before_anything_is_downloaded(server, name, size):
    hub.push("me/weights", NAME)
    server.commit("me/weights", {name: bytes(size)})
    before = len(server.requests)
    with pytest.raises(ValueError, match=rf"hf://me/weights: {name} has {size:,} bytes, [\w ,]+ expected"):
        hub.pull("hf://me/weights")
    assert not [request for request in server.requests[before:] if "/resolve/" in request and name in request]


@pytest.mark.parametrize("key", ["size", "sha256"])
def test_cards_without_size_or_checksum_are_refused_before_the_download(server, key):
    """As cards of third-party weights may be, whose files come from elsewhere."""
    hub.push("me/weights", NAME)
    origin = {"hub": "timm/resnet18", "layout": "timm", "file": "weights.h5"}
    card = json.loads((PLACE / "card.json").read_text()) | {"origin": origin, "size": None, "sha256": None}
    card |= {"sha256": "0" * 64} if key == "size" else {"size": 5000}
    server.commit("me/weights", {"card.json": json.dumps(card).encode(), "weights.h5": bytes(5000)})
    before = len(server.requests)
    with pytest.raises(ValueError, match=r"hf://me/weights: its card states no size or checksum of weights\.h5"):
        hub.pull("hf://me/weights")
    assert not [request for request in server.requests[before:] if "weights.h5" in request]


def test_a_repository_that_names_paths(server, tmp_path):
    """Files of a commit other than the card and its weight file are not downloaded, whatever their path."""
    hub.push("me/weights", NAME)
    strange = dict.fromkeys(("../../evil.py", "/tmp/evil.py", "a/card.json", "weights.h5.exe"), b"evil")
    server.commit("me/weights", strange)
    card = hub.pull("hf://me/weights")
    assert sorted(path.name for path in card.folder.iterdir()) == ["card.json", "weights.h5"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]


@pytest.mark.parametrize("file", ["../weights.h5", "/etc/passwd"])
def test_a_card_cannot_name_a_file_elsewhere(server, file):
    hub.push("me/weights", NAME)
    card = json.loads((PLACE / "card.json").read_text())
    server.commit("me/weights", {"card.json": json.dumps({**card, "file": file}).encode()})
    with pytest.raises(ValueError, match=r"hf://me/weights: .*must be the name of a file, not a path"):
        hub.pull("hf://me/weights")


def test_a_repository_that_changes_between_two_requests(server, monkeypatch):
    """The weight file is the one of the card's commit."""
    hub.push("me/weights", NAME)
    original = download.read_card

    def read_card(path):
        server.commit("me/weights", {"weights.h5": b"another file", "card.json": b"{}"})
        return original(path)

    monkeypatch.setattr(download, "read_card", read_card)
    card = hub.pull("hf://me/weights")
    assert (card.folder / card.file).read_bytes() == (PLACE / "weights.h5").read_bytes()


def test_processes_that_pull_at_once_download_once(server, tmp_path):
    """With a slow Hub. The client locks its cache; every process gets the verified file."""
    hub.push("me/weights", NAME)
    server.delay, environment = 0.5, client_environment(server, tmp_path)
    command = [sys.executable, "-m", "keras_resv2", "pull", "hf://me/weights", "--json"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(8 if STRESS > 1 else 3)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), said
    (folder,) = {json.loads(printed)["folder"] for printed, _ in said}
    assert pathlib.Path(folder, "weights.h5").read_bytes() == (PLACE / "weights.h5").read_bytes()
    assert sum(request.startswith("GET") and request.endswith("/weights.h5") for request in server.requests) == 1


def test_push_checks_its_arguments_before_uploading(server, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="must be of the form user/name"):
        hub.push("weights", NAME)
    with pytest.raises(ValueError, match="there are no pretrained weights 'resnet21-cifar10'; did you mean"):
        hub.push("me/weights", "resnet21-cifar10")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"card\.json does not exist: a weight folder is"):
        hub.push("me/weights", tmp_path / "empty")
    publish(tmp_path, size=5)
    with pytest.raises(ValueError, match="is damaged"):
        hub.push("me/weights", tmp_path / NAME / "1")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PermissionError, match="denies access to me/weights: log in with `hf auth login`"):
        hub.push("me/weights", NAME)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match="you are not logged in to the Hub: log in with `hf auth login`"):
        hub.push("me/weights", NAME)
    assert not server.repositories and not server.large_files


def test_push_without_a_network(server):
    server.close()
    with pytest.raises(ConnectionError, match="me/weights: the Hub cannot be reached"):
        hub.push("me/weights", NAME)


def test_commands(server, capsys):
    assert cli.main(["push", NAME, "me/weights"]) == 0
    reference = capsys.readouterr().out.strip()
    assert cli.main(["pull", reference]) == 0
    text = capsys.readouterr().out
    card = keras_resv2.pretrained_card(NAME)
    assert text.startswith(f"{card.full_name}: resnet20, 269,722 parameters, 10 classes")
    assert f"{card.test_error:.2f} %" in text
    assert pathlib.Path(text.splitlines()[-1].strip()).is_file()
    assert cli.main(["push", NAME, "me/secret", "--private"]) == 0
    assert (server.private["me/weights"], server.private["me/secret"]) == (False, True)
    capsys.readouterr()
    assert cli.main(["pull", "hf://me/nothing"]) == cli.BAD_INPUT
    assert "there is no hf://me/nothing" in capsys.readouterr().err


def test_without_the_client_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install huggingface_hub"):
        hub.pull("hf://me/weights")
