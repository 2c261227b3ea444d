"""Untrusted files: what they must not read, write, allocate or run, and that each error is one line."""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import time
import zipfile

import h5py
import numpy as np
import pytest

import keras_resv2
from helpers import crafted
from helpers.memory import within
from helpers.paths import ROOT
from keras_resv2 import cli, files
from keras_resv2.convert.readers import read_source
from keras_resv2.data.images import read_image
from keras_resv2.labels import class_names
from keras_resv2.storage import card as cards
from keras_resv2.storage import card_schema
from keras_resv2.storage import local as store
from keras_resv2.storage.checksum import sha256
from keras_resv2.storage.weight_file import read_weights, write_weights

CARD = json.loads((ROOT / "weights/resnet20-cifar10/1/card.json").read_text())
CONVERTED = json.loads((ROOT / "keras_resv2/storage/third_party/resnet50-imagenet/1/card.json").read_text())


def refusal(function, *arguments):
    """Returns the one-line message of the ValueError raised by a call."""
    with pytest.raises(ValueError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def write_card(tmp_path, content):
    folder = tmp_path / str(content.get("name", "x")) / str(content.get("version", 1))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(content))
    return folder


def tree(folder):
    return sorted(path for path in folder.rglob("*"))


# Names


@pytest.mark.parametrize(
    "name",
    ["../x.h5", "/tmp/x.h5", "a/b.h5", "a\\b.h5", "..", ".", "", ".hidden.h5", "C:x.h5", "*.h5", "x.h5\0", "x.h5\n",
     "x.h5 ", "x" * 300 + ".h5", "é" * 130 + ".h5", "\ud800.h5", 5, None, ["x.h5"]],
)  # fmt: skip
def test_names_that_refer_to_other_folders(name):
    assert "name of a file" in refusal(files.check_file_name, name, "file")


@pytest.mark.parametrize("name", ["weights.h5", "weights_half.h5", "résumé 2.h5", "my[1].h5"])
def test_names_of_files(name):
    assert files.check_file_name(name, "file") == name


@pytest.mark.parametrize("file", ["../../../x.sh", "/{tmp}/x.h5", "card.json", "x.sh", "..\\x.h5"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "embed"])
def test_a_card_writes_nothing_outside_its_folder(tmp_path, capsys, file, command):
    """Its file would be downloaded from a valid URL, with the size and checksum of the card."""
    from PIL import Image

    file, evil, image = file.format(tmp=tmp_path), tmp_path / "evil", tmp_path / "image.png"
    evil.write_bytes(b"#!/bin/sh\n")
    Image.new("RGB", (32, 32)).save(image)
    known = {"url": evil.as_uri(), "size": 10, "sha256": sha256(evil), "file": file}
    folder, before = write_card(tmp_path, CARD | known), tree(tmp_path)
    arguments = {"evaluate": ["--data_dir", str(tmp_path)], "embed": [str(image), "--out", str(tmp_path / "x.npz")]}
    assert cli.main([command, str(folder), *arguments.get(command, [str(image)])]) == cli.BAD_INPUT
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "file" in output.err
    assert not [path for path in tree(tmp_path) if path not in before]


@pytest.mark.parametrize("file", ["../x.h5", "weights.h5", "card.json", "x.sh", None])
def test_what_a_card_is_converted_from_is_one_file(tmp_path, file):
    origin = CONVERTED["origin"] | {"file": file}
    assert "origin" in refusal(cards.read_card, write_card(tmp_path, CONVERTED | {"origin": origin}) / "card.json")


def test_a_fetched_file_that_is_refused_is_removed(tmp_path):
    """It has the checksum of the card but does not contain weights."""
    evil = tmp_path / "evil.h5"
    crafted.with_values(evil, crafted.soft_link)
    sums = {"url": evil.as_uri(), "md5": _md5(evil), "file": "evil.h5", "layout": "x"}
    folder = write_card(tmp_path, CONVERTED | {"origin": sums})
    assert "to elsewhere" in refusal(keras_resv2.from_pretrained, folder)
    assert [path.suffix for path in tree(store.home()) if path.is_file()] == [".lock", ".lock"]


def test_a_fetched_file_is_no_larger_than_its_network(tmp_path):
    big = tmp_path / "big.h5"
    with open(big, "wb") as file:
        file.truncate(500 << 20)  # ResNet-50 has 102 MB
    sums = {"url": big.as_uri(), "md5": "0" * 32, "file": "big.h5", "layout": "x"}
    folder = write_card(tmp_path, CONVERTED | {"origin": sums})
    assert "at most" in refusal(keras_resv2.from_pretrained, folder)
    assert not [path for path in tree(store.home()) if path.is_file() and path.suffix != ".lock"]


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content, fits",
    [
        ({str(i): [f"n{i}", f"thing {i}"] for i in range(3)}, True),
        ({"0": ["n0", "a"]}, False),
        ({str(i): "x" for i in range(3)}, False),
        ({str(i): ["n", 5] for i in range(3)}, False),
        ({str(i): ["n", "\x1b[31m"] for i in range(3)}, False),
        ([1, 2], False),
        (5, False),
    ],
)
def test_class_names_that_are_fetched(tmp_path, content, fits):
    """Next to another file of the same name in the cache."""
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps(content))
    store.home().mkdir()
    (store.home() / path.name).write_text("{}")
    index = {"url": path.as_uri(), "md5": _md5(path), "classes": 3}
    card = cards.read_card(write_card(tmp_path, CONVERTED | {"class_index": index}) / "card.json")
    if fits:
        assert class_names(card) == ("thing 0", "thing 1", "thing 2")
    else:
        assert "does not contain the names of 3 classes" in refusal(class_names, card)


def test_class_names_in_the_place_of_older_versions(tmp_path):
    path = store.home() / "imagenet_class_index.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"0": ["n0", "thing"]}))
    index = {"url": "http://127.0.0.1:9/imagenet_class_index.json", "md5": _md5(path), "classes": 1}
    card = cards.read_card(write_card(tmp_path, CONVERTED | {"class_index": index}) / "card.json")
    assert class_names(card) == ("thing",)


# Cards

NOT_IN_CARDS = [
    ("name", 5), ("name", "a@b"), ("name", "../x"), ("version", 0), ("version", True), ("version", "1"),
    ("version", 10**400), ("architecture", "resnet21"), ("architecture", []), ("arguments", []),
    ("arguments", {"dtype": "float16"}), ("arguments", {"depth": 1202}), ("arguments", {"projection": 5}),
    ("arguments", {"projection": {}}), ("arguments", {"shortcut": "exclusive_gating(bias=nan)"}),
    ("arguments", {"shortcut": ["none"]}), ("arguments", {"conv_bias": "yes"}),
    ("arguments", {"width": 1000}), ("arguments", {"width": 2.0}), ("arguments", {"width": True}),
    ("architecture", "wide_resnet200_32"), ("arguments", {"preprocessing": [[1], 2]}), ("parameters", None),
    ("parameters", 2.5),
    ("class_names", []), ("class_names", "cat"), ("class_names", [1, 2]), ("class_names", ["\x1b]0;owned\x07"] * 10),
    ("class_names", {"0": "cat"}), ("class_names", ["x"] * 100_001), ("image_shape", [32, 32]), ("image_shape", None),
    ("image_shape", [10**6, 10**6, 3]), ("image_shape", [0, 32, 3]), ("image_shape", [32.0, 32, 3]),
    ("dataset_sha256", {}), ("dataset_sha256", {"train": 1, "test": 2}), ("test_error", "8"), ("test_error", -1),
    ("test_error", 101), ("test_error", None), ("seed_errors", {"0": None}), ("wall_seconds", -1), ("size", 0),
    ("size", None), ("size", 1.0),
    ("size", 10**9), ("sha256", "x" * 64), ("sha256", "0" * 63), ("sha256", None), ("sha256", 5),
    ("file", 5), ("url", 5), ("url", "ftp://x/y"), ("url", "javascript:x"), ("url", "http://x/\ny"), ("license", None),
    ("origin", 5), ("origin", []), ("origin", {"layout": 5}),
    ("origin", {"reported_error": "8.2"}), ("origin", {"reported_error": [1]}), ("origin", {"reported_error": 101}),
    ("origin", {"url": "http://x/y.h5"}),
    ("origin", {"url": "ftp://x/y.h5", "file": "y.h5", "md5": "0" * 32}), ("class_index", 5), ("class_index", [1]),
    ("class_index", {}), ("class_index", {"classes": 10}), ("versions", []),
    ("recipe_values", {"a": [[[[[[[[[[1]]]]]]]]]]}),
    ("class_index", {"url": "http://x/y", "md5": "0" * 32, "classes": 10**9}),
    ("class_index", {"url": "http://x/y", "md5": "0" * 32, "classes": "10"}),
    ("class_index", {"url": "http://x/y", "md5": "../../x", "classes": 10}),
]  # fmt: skip


@pytest.mark.parametrize("key, value", NOT_IN_CARDS)
def test_cards_that_are_refused(tmp_path, key, value):
    folder = write_card(tmp_path, {**CARD, "name": "x"})
    (folder / "card.json").write_text(json.dumps({**CARD, "name": "x", key: value}))
    with within(100):
        assert key.partition("_")[0] in refusal(cards.read_card, folder / "card.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "5", '"x"', "null", "{", '{"a": NaN}', "[" * 100_000, '{"a":' * 100_000, "\xff", "9" * 5000]
)
def test_texts_that_are_no_cards(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("latin-1"))
    assert "is not a weight card" in refusal(cards.read_card, path)


def test_numbers_that_are_too_large_for_a_card(tmp_path):
    """JSON does not have infinity, but Python reads it."""
    folder = write_card(tmp_path, CARD | {"wall_seconds": 12345})
    path = folder / "card.json"
    path.write_text(path.read_text().replace("12345", "1e999"))
    assert "wall_seconds is inf" in refusal(cards.read_card, path)


def test_every_field_of_a_card_is_checked():
    names = [field.name for field in dataclasses.fields(cards.Card) if field.name != "folder"]
    assert names == list(card_schema.FIELDS)


def test_cards_of_a_later_version(tmp_path):
    """New fields are ignored; an unknown argument of the network would build a different one."""
    folder = write_card(tmp_path, CARD | {"calibration": {"temperature": 1.5}})
    assert cards.read_card(folder / "card.json") == keras_resv2.pretrained_card("resnet20-cifar10@1")
    folder = write_card(tmp_path, CARD | {"arguments": {"squeeze": True}})
    assert "newer version" in refusal(cards.read_card, folder / "card.json")


def test_cards_are_regular_files_of_ordinary_size(tmp_path):
    os.mkfifo(tmp_path / "card.json")
    assert "is a pipe" in refusal(cards.read_card, tmp_path / "card.json")
    os.truncate(os.open(tmp_path / "large.json", os.O_CREAT | os.O_WRONLY), 1 << 30)
    assert "the limit is" in refusal(cards.read_card, tmp_path / "large.json")


# Weight files


@pytest.mark.parametrize("make, words", crafted.REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_hdf5_that_is_more_than_arrays(tmp_path, make, words):
    """In a weight file of this package, in one of Keras and in a .keras archive."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["values"] = np.ones(3, "float32")
    with within(300):
        assert words in refusal(read_weights, crafted.with_values(tmp_path / "ours.h5", make))
        assert words in refusal(read_source, crafted.as_legacy(tmp_path / "theirs.h5", make))
        assert words in refusal(read_source, crafted.as_keras(tmp_path / "theirs.keras", make))


@pytest.mark.parametrize("marker", ["index", "format"])
def test_a_text_that_declares_four_gigabytes(tmp_path, marker):
    path = crafted.text_of_four_gigabytes(tmp_path / "w.h5", marker)
    with within(300):
        assert "declares 4,294,967,295 bytes of text" in refusal(read_weights, path)


def test_compressed_files_of_keras_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 40)).astype("float32")

    def packed(group):
        group.create_dataset("values", data=values, chunks=(7, 40), compression="gzip", shuffle=True, fletcher32=True)

    for path in (crafted.as_legacy(tmp_path / "x.h5", packed), crafted.as_keras(tmp_path / "x.keras", packed)):
        np.testing.assert_array_equal(read_source(path).tensors["conv/values"], values)


@pytest.mark.parametrize(
    "index",
    ["", "5", "{}", "[5]", '[{"name": 5, "shape": [3], "offset": 0}]', '[{"name": "w", "shape": [4], "offset": 0}]',
     '[{"name": "w", "shape": [3], "offset": -1}]', '[{"name": "w", "shape": [-3], "offset": 0}]', "[" * 100_000,
     '[{"name": "w", "shape": [3], "offset": 1e9}]', '[{"name": "w", "shape": 3, "offset": 0}]',
     '[{"name": "w", "shape": [3], "offset": 0, "array": "other"}]', '[{"name": "w", "shape": [3], "offset": true}]',
     '[{"name": "w", "shape": [3], "offset": 0, "array": "half"}]', f"[{crafted.INDEX[1:-1]}, {crafted.INDEX[1:-1]}]",
     '[{"name": "w\\u001b", "shape": [3], "offset": 0}]',
     '[{"name": "w", "shape": [99999999999, 0, 3], "offset": 5}]',
     '[{"name": "w", "shape": [1,1,1,1,1,1,1,1,3], "offset": 0}]'],
)  # fmt: skip
def test_indices_that_are_refused(tmp_path, index):
    path = crafted.with_values(tmp_path / "w.h5", lambda file: file.update(values=np.zeros(3, "float32")), index)
    assert "damaged" in refusal(read_weights, path)


@pytest.mark.parametrize("make, words", [
    (lambda file: file.update(values=np.zeros(3, "float64")), "has the dtype float64"),
    (lambda file: file.update(values=np.zeros((3, 1), "float32")), "not a list of numbers"),
    (lambda file: file.create_group("values"), "not a list of numbers"),
    (lambda file: file.update(values=np.zeros(3, "float32"), more=np.zeros(3)), "it contains index, more, values"),
    (lambda file: None, "it contains index"),
])  # fmt: skip
def test_weight_files_hold_two_arrays_and_nothing_else(tmp_path, make, words):
    assert words in refusal(read_weights, crafted.with_values(tmp_path / "w.h5", make))


@pytest.mark.parametrize("half", [False, True])
def test_a_changed_bit_is_noticed(tmp_path, half):
    """In the values and in the index, which HDF5 itself does not check."""
    path = crafted.ours(tmp_path / "w.h5", half=half)
    content = path.read_bytes()
    places = [content.index(array.tobytes()) for array in (np.ones(4, "float32"), crafted.ARRAYS["head_dense/bias"])]
    for place in (*places, content.index(b"stem_conv")):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert "does not match its SHA-256" in refusal(read_weights, path)


def test_weight_files_without_a_checksum_open(tmp_path):
    """Files that were published before checksums were added."""
    older = ("preact_resnet20-cifar10/1", "preact_resnet56-cifar10/1", "resnet20-cifar10/1", "resnet32-cifar10/1")
    for name in older:
        path = ROOT / "weights" / name / "weights.h5"
        with h5py.File(path) as file:
            assert "sha256" not in file.attrs
        assert read_weights(path)["head_dense/kernel"].shape == (64, 10)


@pytest.mark.parametrize("name, value, words", [
    ("stem_conv/kernel", np.nan, "not finite"),
    ("head_dense/bias", np.inf, "not finite"),
    ("stem_bn/moving_variance", -1, "negative variances"),
])  # fmt: skip
def test_values_that_no_network_works_with(tmp_path, name, value, words):
    arrays = {**crafted.ARRAYS, name: crafted.ARRAYS[name].copy()}
    arrays[name].flat[0] = value
    write_weights(arrays, tmp_path / "w.h5")
    assert words in refusal(read_weights, tmp_path / "w.h5") and name in refusal(read_weights, tmp_path / "w.h5")


def test_weights_without_a_classifier_are_no_pretrained_network(tmp_path):
    folder = write_card(tmp_path, CARD)
    path = crafted.ours(folder / "weights.h5")
    write_weights({name: array for name, array in crafted.ARRAYS.items() if "head" not in name}, path)
    write_card(tmp_path, CARD | {"size": path.stat().st_size, "sha256": sha256(path)})
    assert "no classifier" in refusal(keras_resv2.from_pretrained, folder)


# Files of other libraries


def _torch_files(torch):
    """Contents of PyTorch files, and fragments of the error messages."""
    looped = {"conv1.weight": torch.ones(3)}
    looped["state_dict"] = looped
    deep = {"conv1.weight": torch.ones(3)}
    for _ in range(20):
        deep = {"model": deep}
    return {
        "expanded": ({"w": torch.ones(1).expand(10**6, 10**5)}, "fewer values are stored"),
        "sparse": ({"w": torch.ones(3, 3).to_sparse()}, "sparse tensor"),
        "compressed rows": ({"w": torch.ones(3, 3).to_sparse_csr()}, "sparse tensor"),
        "meta": ({"w": torch.ones(10**6, 10**5, device="meta")}, "meta tensor"),
        "quantized": ({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, "quantized tensor"),
        "complex": ({"w": torch.ones(3, dtype=torch.complex64)}, "complex tensor"),
        "shared": ({f"w{i}": base for i, base in enumerate([torch.ones(10**5)] * 3000)}, "declares 1,200,000,000"),
        "looped": (looped, "holds itself"),
        "deep": (deep, "dictionaries deep"),
        "list": ([torch.ones(3)], "holds a list"),
        "nothing": ({}, "holds no tensors"),
        "scalars": ({f"{name}.weight": torch.tensor(1.0) for name in ("conv1", "bn1", "fc")}, ""),
        "empty": ({"conv1.weight": torch.ones(0, 3, 3, 3), "linear.bias": torch.ones(0)}, ""),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from keras_resv2.convert import detect

    for name, (content, words) in _torch_files(torch).items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with within(500):
            assert words in refusal(detect, path), name


def test_compressed_pytorch_archives(tmp_path):
    """100 MB of zeros in 0.1 MB; a compressed archive that is not a bomb opens."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save({"w": torch.zeros(25_000_000)}, tmp_path / "big.pth")
    (tmp_path / "bomb.pth").write_bytes(crafted.deflated((tmp_path / "big.pth").read_bytes()))
    with within(50):
        assert "expands to" in refusal(read_source, tmp_path / "bomb.pth")
    (tmp_path / "big.pth").unlink()
    torch.save({"w": torch.arange(10.0)}, tmp_path / "small.pth")
    (tmp_path / "small.pth").write_bytes(crafted.deflated((tmp_path / "small.pth").read_bytes()))
    np.testing.assert_array_equal(read_source(tmp_path / "small.pth").tensors["w"], np.arange(10))


def test_a_keras_archive_that_expands(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(100_000_000))
    with within(50):
        assert "expands to 100,000,000" in refusal(read_source, tmp_path / "x.keras")


@pytest.mark.parametrize("said", [b"[1]", b"5", b'"projection"', b"{", b"[" * 5000, b'{"stem": null}'])
def test_metadata_of_safetensors(tmp_path, said):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    numpy.save_file({"w": np.ones(3, "float32")}, tmp_path / "x.safetensors", {"keras_resv2": said.decode()})
    try:
        assert not any(read_source(tmp_path / "x.safetensors").said.values())
    except ValueError as error:
        assert "cannot be read" in str(error)


@pytest.mark.parametrize("ending", ["pth", "safetensors", "h5", "keras"])
def test_pipes_and_folders_are_not_opened(tmp_path, ending):
    os.mkfifo(tmp_path / f"pipe.{ending}")
    (tmp_path / f"folder.{ending}").mkdir()
    assert "is a pipe" in refusal(read_source, tmp_path / f"pipe.{ending}")
    assert "is a folder" in refusal(read_source, tmp_path / f"folder.{ending}")
    if ending == "h5":
        assert "is a pipe" in refusal(read_weights, tmp_path / "pipe.h5")


@pytest.mark.parametrize("attrs", [
    {"layer_names": 5}, {"layer_names": [b"none"]}, {"layer_names": [b"array"]}, {"layer_names": [b"../x"]},
    {"layer_names": np.zeros(3)}, {"layer_names0": [b"group"]},
])  # fmt: skip
def test_files_of_keras_with_groups_in_the_wrong_place(tmp_path, attrs):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["array"] = np.zeros(3)
        file.create_group("group").attrs["weight_names"] = [b"inner"]
        file["group"].create_group("inner")
        file.attrs.update(attrs)
    refusal(read_source, tmp_path / "x.h5")


# Images


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_with_too_many_pixels(tmp_path):
    (tmp_path / "bomb.png").write_bytes(crafted.png(13_000, 12_000))  # Pillow warns of these
    (tmp_path / "larger.png").write_bytes(crafted.png(60_000, 60_000))  # and refuses these
    with within(50):
        assert "3600000000 pixels" in refusal(read_image, tmp_path / "larger.png", (32, 32))
        assert "13000 x 12000 pixels" in refusal(read_image, tmp_path / "bomb.png", (32, 32))


def test_images_that_are_no_files_or_have_no_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a pipe" in refusal(read_image, tmp_path / "pipe.png", (32, 32))
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(1 << 30)
    assert "the limit is" in refusal(read_image, tmp_path / "sparse.png", (32, 32))


def test_images_that_are_programs(tmp_path):
    """Pillow passes PostScript to Ghostscript."""
    (tmp_path / "x.eps").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "unknown format" in refusal(read_image, tmp_path / "x.eps", (32, 32))


# Writing


@pytest.fixture
def full_disk(monkeypatch):
    """Partial files are written to a full device."""
    original = files._partial_path

    def partial_path(path):
        partial = original(path)
        partial.symlink_to("/dev/full")
        return partial

    if not pathlib.Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(files, "_partial_path", partial_path)


@pytest.mark.parametrize("name", ["w.h5", "w.pt", "w.safetensors", "w.onnx", "w.npz", "w.png"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, full_disk, name):
    from keras_resv2 import convert, embedding, export
    from keras_resv2.data import images

    (tmp_path / name).write_text("before")
    if name.endswith((".pt", ".safetensors", ".onnx")):
        pytest.importorskip({"pt": "torch", "safetensors": "safetensors", "onnx": "onnx"}[name[2:]])
    write = {
        "w.h5": lambda path: write_weights(crafted.ARRAYS, path),
        "w.pt": lambda path: convert.save_pytorch(keras_resv2.ResNet20(), path, "cifar"),
        "w.safetensors": lambda path: convert.save_pytorch(keras_resv2.ResNet20(), path, "cifar"),
        "w.onnx": lambda path: export(keras_resv2.ResNet(8), path, "onnx", overwrite=True),
        "w.npz": lambda path: embedding.write_features(path, "x", ["a"], np.zeros((1, 100_000))),
        "w.png": lambda path: images.draw_predictions([np.zeros((32, 32, 3), "uint8")], [[("cat", 1.0)]], path),
    }[name]
    with pytest.raises(files.DiskFullError, match=r"the disk of .* is full.*Free some space and try again") as error:
        write(tmp_path / name)
    assert "\n" not in str(error.value)
    assert (tmp_path / name).read_text() == "before" and os.listdir(tmp_path) == [name]


def test_the_words_of_libraries_for_a_full_disk():
    assert files.is_disk_full(OSError(errno.EDQUOT, "quota"))
    for text in (
        "[Errno 28] Can't write data (file write failed: errno = 28, error message = 'No space left on device')",
        "saved/variables/variables.data-00000-of-00001; No space left on device",  # TensorFlow
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
    ):
        assert files.is_disk_full(RuntimeError(text))
    assert not files.is_disk_full(OSError(errno.EACCES, "no"))
    try:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            raise RuntimeError("closing failed")  # noqa: B904
    except RuntimeError as error:
        assert files.is_disk_full(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_what_stops_a_writer_leaves_nothing(tmp_path, error):
    for is_folder in (False, True):
        with pytest.raises(error):
            with files.atomic_write(tmp_path / "x") as partial:
                if is_folder:
                    partial.mkdir()
                    partial /= "inside"
                partial.write_text("half")
                raise error
        assert os.listdir(tmp_path) == []


def test_writers_of_the_same_file_do_not_interfere(tmp_path):
    with files.atomic_write(tmp_path / "x", sync=True) as one, files.atomic_write(tmp_path / "x") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one" and os.listdir(tmp_path) == ["x"]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    """Those older than an hour; other writers may be using newer ones."""
    for name, age in (("x.0123abcd.part", 4000), ("x.01234567.part", 10), ("y.0123abcd.part", 4000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with files.atomic_write(tmp_path / "x") as partial:
        partial.touch()
    assert [path.name for path in tree(tmp_path)] == ["x", "x.01234567.part", "y.0123abcd.part"]


def test_folders_are_replaced_whole(tmp_path):
    for number in range(2):
        with files.atomic_write(tmp_path / "x") as partial:
            partial.mkdir()
            (partial / str(number)).touch()
    assert [path.name for path in tree(tmp_path)] == ["x", "1"]


def test_errors_do_not_control_the_terminal(capsys):
    assert cli.main(["predict", "resnet20-cifar10@\x1b]0;owned\x07", "x.png"]) == cli.BAD_INPUT
    assert "\x1b" not in capsys.readouterr().err
