"""Weights of keras.applications: its networks give the outputs that ours give; its published files, served here."""

import hashlib
import http.server
import json
import pathlib
import shutil
import threading
import types

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import SIZE, assert_same, images, outputs, randomised, write_legacy
from keras_resv2 import cli, convert, hub
from keras_resv2.exporting import exporter
from keras_resv2.models.weights import model_arrays
from keras_resv2.storage import local as store


@pytest.fixture(scope="module", params=["ResNet50", "ResNet50V2"])
def application(request, tmp_path_factory):
    """A network of keras.applications on images of odd sizes, its preprocessing, and its weights in three forms."""
    theirs = getattr(keras.applications, request.param)
    module = keras.applications.resnet if request.param == "ResNet50" else keras.applications.resnet_v2
    model = randomised(theirs(weights=None, input_shape=(*SIZE, 3), classes=7, classifier_activation=None))
    folder = tmp_path_factory.mktemp("applications")
    write_legacy(model, folder / "legacy.h5")
    model.save_weights(folder / "keras3.weights.h5")
    model.save(folder / "whole.keras")
    return model, module.preprocess_input, folder


def test_keras_applications_gives_the_same_outputs(application):
    """Logits and every stage, from raw pixels."""
    theirs, preprocess, _ = application
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("float32")
    ours = convert.from_keras_applications(theirs, input_shape=(*SIZE, 3), classifier_activation=None)
    ends = {f"stage{s}": [x for x in theirs.layers if x.name.startswith(f"conv{s + 1}_")][-1] for s in range(1, 5)}
    both = keras.Model(theirs.input, [*(layer.output for layer in ends.values()), theirs.output])
    *stages, logits = both.predict(preprocess(pixels.copy()), verbose=0)
    assert_same(outputs(ours, pixels), (dict(zip(ends, stages, strict=True)), logits))


def test_files_of_keras_applications_are_their_models(application):
    theirs, _, folder = application
    expected = convert.detect(theirs)
    assert expected.architecture == ("resnet50" if theirs.name == "resnet50" else "preact_resnet50")
    for name in ("legacy.h5", "keras3.weights.h5", "whole.keras"):
        found = convert.detect(folder / name)
        assert (found.architecture, found.arguments, found.classes) == (
            expected.architecture,
            expected.arguments,
            expected.classes,
        )
        assert all(np.array_equal(found.weights[key], expected.weights[key]) for key in expected.weights)


@pytest.mark.parametrize("options", [dict(include_top=False, pooling="max"), dict(classes=2048)])
def test_other_heads_of_keras_applications(options):
    """The largest features instead of their mean; and as many classes as there are features."""
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), **options)
    assert convert.detect(theirs).architecture == "resnet50"


def test_the_deepest_of_keras_applications_is_detected():
    theirs = keras.applications.ResNet152V2(weights=None, include_top=False)
    found = convert.detect(theirs)
    assert (found.architecture, found.classes) == ("preact_resnet152", None)


def test_other_keras_applications_are_refused():
    with pytest.raises(ValueError, match="none of the layouts"):
        convert.from_keras_applications(keras.applications.MobileNet(weights=None, include_top=False))


# How networks are arranged


@pytest.mark.parametrize("depth, activation", [(20, "full_preactivation"), (29, "original")])
def test_rolled_networks_with_the_stride_in_the_last_unit(depth, activation):
    arguments = dict(activation=activation, stride_in="last", conv_bias=True, classifier_activation=None)
    plain = randomised(keras_resv2.ResNet(depth, **arguments))
    rolled = keras_resv2.ResNet(depth, **arguments, rolled=True, weights=model_arrays(plain))
    assert [layer.name for layer in rolled.layers if "_to_" in layer.name] == ["stage3_unit2_to_3"]
    x = 120 + 50 * images((32, 32))
    assert_same(outputs(rolled, x), outputs(plain, x))
    assert [y.shape[1] for y in outputs(plain, x)[0].values()] == [16, 8, 8]


@pytest.mark.parametrize("arguments, words", [
    (dict(preprocessing="imagenet"), "'torch'"),
    (dict(preprocessing=((1, 2), (3, 4, 5))), "one number per channel"),
    (dict(preprocessing=((1, 2, 3), (1, 1, 0))), "std above 0"),
    (dict(preprocessing=((0.49, 0.48, 0.45), (0.2, 0.2, 0.2))), "multiply all numbers by 255"),
    (dict(stride_in="middle"), "'first', 'last'"),
    (dict(activated_shortcuts="all"), "'projections'"),
])  # fmt: skip
def test_arrangements_that_are_none(arguments, words):
    with pytest.raises(ValueError, match=words):
        keras_resv2.ResNet(8, **arguments)


# Weights that keras.applications publishes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of keras.applications, and its weights as a published file."""
    theirs = randomised(keras.applications.ResNet50(weights=None))
    path = tmp_path_factory.mktemp("published") / "theirs.h5"
    write_legacy(theirs, path)
    return theirs, path


@pytest.fixture
def publisher(published, tmp_path, monkeypatch, server):
    """A published weight file and class index on the loopback address, and the package's card that names them."""
    theirs, weights = published
    index = tmp_path / "index.json"
    index.write_text(json.dumps({str(i): [f"n{i:08}", f"thing{i}"] for i in range(1000)}))
    server.files = {"/resnet50.h5": weights.read_bytes(), "/index.json": index.read_bytes()}
    source = next(folder for folder in store.weight_folders() if folder.name == "third_party")
    shutil.copytree(source / "resnet50-imagenet", tmp_path / "published" / "resnet50-imagenet")
    path = tmp_path / "published/resnet50-imagenet/1/card.json"
    card = json.loads(path.read_text())
    card["origin"] |= {"url": f"{server.root}/resnet50.h5", "md5": md5(weights)}
    card["class_index"] |= {"url": f"{server.root}/index.json", "md5": md5(index)}
    path.write_text(json.dumps(card))
    monkeypatch.setattr(store, "weight_folders", lambda: [store.home() / "weights", tmp_path / "published"])
    return theirs


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_published_weights_are_fetched_and_converted_once(publisher, server):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    ours = keras_resv2.from_pretrained("resnet50-imagenet").predict(pixels, verbose=0)
    theirs = publisher.predict(keras.applications.resnet.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert server.requests == ["/resnet50.h5"]
    card = keras_resv2.pretrained_card("resnet50-imagenet")
    assert card.folder.is_relative_to(store.home()) and card.test_error is None and "MIT" in card.license
    assert card.origin["file"] == "resnet50_weights_tf_dim_ordering_tf_kernels.h5" and card.origin["md5"]
    assert sorted(path.suffix for path in card.folder.iterdir() if path.suffix != ".lock") == [".h5", ".json"]
    keras_resv2.from_pretrained("resnet50-imagenet", include_top=False)
    decoded = keras_resv2.decode_predictions(theirs, "resnet50-imagenet", top=3)
    best = np.argsort(-theirs, axis=1)[:, :3]
    assert [[name for name, _ in row] for row in decoded] == [[f"thing{i}" for i in row] for row in best]
    assert decoded[0][0][1] == pytest.approx(theirs[0].max())
    keras_resv2.decode_predictions(theirs, card)
    assert server.requests == ["/resnet50.h5", "/index.json"]


def test_a_folder_of_the_same_name_does_not_take_their_place(publisher, server, tmp_path):
    """Its author is not trusted; nor does it get what the name has in the cache."""
    folder = tmp_path / "foreign/resnet50-imagenet/1"
    shutil.copytree(tmp_path / "published/resnet50-imagenet/1", folder)
    content = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**content, "license": "of the folder"}))
    assert keras_resv2.from_pretrained(folder).name == "resnet50"
    named = keras_resv2.pretrained_card("resnet50-imagenet")
    assert named.sha256 is None and "MIT" in named.license  # not converted yet, and the package's
    keras_resv2.from_pretrained("resnet50-imagenet")
    assert server.requests == ["/resnet50.h5", "/resnet50.h5"]
    assert "MIT" in keras_resv2.pretrained_card("resnet50-imagenet").license


def test_a_damaged_file_of_theirs_is_converted_again(publisher):
    """The message says what to delete, and that is enough."""
    keras_resv2.from_pretrained("resnet50-imagenet")
    card = keras_resv2.pretrained_card("resnet50-imagenet")
    (card.folder / card.file).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"is damaged.*Delete") as refusal:
        keras_resv2.from_pretrained("resnet50-imagenet")
    named = pathlib.Path(str(refusal.value).partition("Delete ")[2].partition(" to download")[0])
    assert named == card.folder
    (card.folder / card.file).unlink()
    with pytest.raises(FileNotFoundError, match=f"Delete {card.folder} to download"):
        keras_resv2.from_pretrained("resnet50-imagenet")
    shutil.rmtree(named)
    keras_resv2.from_pretrained("resnet50-imagenet")


def test_what_is_pushed_of_them_is_whole_the_first_time(publisher, monkeypatch):
    """The card that goes with the converted file is the one beside it, with its sum."""
    hub_client = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    pushed = {}

    class Api:
        def __init__(self, library_name):
            pass

        def create_repo(self, repository, **options):
            pass

        def list_repo_files(self, repository):
            return []

        def create_commit(self, repository, additions, commit_message):
            pushed.update({addition.path_in_repo: addition.path_or_fileobj for addition in additions})
            return types.SimpleNamespace(oid="0123")

    monkeypatch.setattr(hub_client, "HfApi", Api)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    assert hub.push("me/resnet50", "resnet50-imagenet") == "hf://me/resnet50@0123"
    weights = pathlib.Path(pushed["weights.h5"]).read_bytes()
    card = json.loads(pathlib.Path(pushed["card.json"]).read_text())
    assert (card["sha256"], card["size"]) == (hashlib.sha256(weights).hexdigest(), len(weights))


def test_exports_of_them_have_the_names_of_their_classes(publisher, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(exporter, "export", lambda *arguments, **more: given.update(more) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["export", "resnet50-imagenet", "--format", "onnx", "--out", str(tmp_path / "n.onnx")])
    assert given["class_names"] == tuple(f"thing{i}" for i in range(1000))


def test_published_cards_are_those_of_keras_applications():
    """Addresses, sums and what the network is: against the installed library's source."""
    source = pytest.importorskip("keras.src.applications.resnet", reason="this Keras keeps its tables elsewhere")
    cards = map(keras_resv2.pretrained_card, keras_resv2.list_pretrained("*-imagenet"))
    cards = {card.name: card for card in cards if "md5" in card.origin}
    assert len(cards) == 6
    for name, card in cards.items():
        theirs = card.architecture.removeprefix("preact_") + ("v2" if "preact" in name else "")
        assert card.origin["md5"] == source.WEIGHTS_HASHES[theirs][0]
        assert card.origin["url"] == f"{source.BASE_WEIGHTS_PATH}{theirs}_weights_tf_dim_ordering_tf_kernels.h5"
        assert len(card.class_names) == 1000 and card.test_error is None


def test_another_file_than_the_published_one_is_refused(publisher, server):
    server.files["/resnet50.h5"] += b"?"
    with pytest.raises(ValueError, match="not the expected file"):
        keras_resv2.from_pretrained("resnet50-imagenet")
    server.files = {}
    with pytest.raises(ConnectionError, match="404"):
        keras_resv2.decode_predictions(np.zeros((1, 1000)), "resnet50-imagenet")


def test_decoding_predictions_of_our_own_networks():
    probabilities = np.eye(10)[[3, 9]] * 0.5 + 0.05
    decoded = keras_resv2.decode_predictions(probabilities, "resnet20-cifar10", top=2)
    assert [row[0] for row in decoded] == [("cat", pytest.approx(0.55)), ("truck", pytest.approx(0.55))]
    assert [len(row) for row in decoded] == [2, 2]
    with pytest.raises(ValueError, match=r"\(images, 10\), not \(2, 5\)"):
        keras_resv2.decode_predictions(probabilities[:, :5], "resnet20-cifar10")
    with pytest.raises(ValueError, match="top=0"):
        keras_resv2.decode_predictions(probabilities, "resnet20-cifar10", top=0)


@pytest.fixture
def server():
    """Serves `files` by path on the loopback address, and lists what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            content = self.server.files.get(self.path)
            if content is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.root = {}, [], f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
