"""Embeddings: their values, the file and the example that use them."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.paths import ROOT
from helpers.published import publish
from keras_resv2 import cli, embed, nearest_neighbors
from keras_resv2.embedding import padded_size
from keras_resv2.models.weights import model_arrays

NAME = "preact_resnet20-cifar10"


def test_the_classifier_on_the_embedding_is_the_network(pixels):
    model = keras_resv2.from_pretrained(NAME)
    kernel, bias = model.get_layer("head_dense").get_weights()
    scores = embed(NAME, pixels, batch_size=3) @ kernel + bias
    expected = model.predict(pixels, verbose=0)
    assert np.allclose(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), expected, atol=1e-4)


def test_embedding_of_a_model(pixels):
    model = keras_resv2.from_pretrained(NAME, classes=3)
    assert np.allclose(embed(model, pixels), embed(NAME, pixels), atol=1e-5)
    with pytest.raises(ValueError, match="Dense layer"):
        embed(keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()]), pixels)


def test_a_path_is_a_folder_even_if_it_has_a_published_name(pixels, tmp_path, monkeypatch):
    from keras_resv2.storage.local import pinned_name

    publish(tmp_path, name="resnet20-cifar10")
    monkeypatch.chdir(tmp_path)
    own = embed(pathlib.Path("resnet20-cifar10"), pixels)
    np.testing.assert_array_equal(own, embed("./resnet20-cifar10", pixels))
    assert not np.allclose(own, embed("resnet20-cifar10", pixels), rtol=0.1)
    card = keras_resv2.pretrained_card("./resnet20-cifar10")
    assert pinned_name(pathlib.Path("resnet20-cifar10"), card) == "./resnet20-cifar10"


def test_nearest_neighbors_by_hand():
    features = np.array([[1.0, 0.0], [3.0, 3.0], [0.0, 2.0], [-1.0, 0.0]])
    positions, similarities = nearest_neighbors(features, np.array([[2.0, 1.0]]), count=3)
    assert positions.tolist() == [[1, 0, 2]]
    assert np.allclose(similarities, [[3 / 10**0.5, 2 / 5**0.5, 1 / 5**0.5]])


def test_nearest_neighbors_in_blocks(monkeypatch):
    """The same as sorting all similarities, equal ones in the order of the images; without all pairs in memory."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype("float32")
    features[20:30] = features[:10]
    queries = features[:25]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    every = unit[:25] @ unit.T
    monkeypatch.setattr("keras_resv2.embedding.MOST_PAIRS", 7 * 60)
    for count in (1, 2, 7, 60, 99):
        positions, similarities = nearest_neighbors(features, queries, count)
        expected = np.argsort(-every, axis=1, kind="stable")[:, :count]
        assert np.allclose(similarities, np.take_along_axis(every, expected, axis=1), atol=1e-6)
        if count <= 2:  # image and copy are equal up to rounding in other positions
            assert np.array_equal(positions[:10], expected[:10])
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="features are NaN or infinite"):
        nearest_neighbors(features, queries)
    for count in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"count=.* must be a whole number"):
            nearest_neighbors(unit, unit, count)
    with pytest.raises(ValueError, match="rows of the same length"):
        nearest_neighbors(unit, unit[:, :3])


def test_images_of_another_size_are_reported(pixels):
    large = pixels[:2].repeat(3, axis=1).repeat(3, axis=2)
    with pytest.warns(
        UserWarning, match=r"far from the size that preact_resnet20-cifar10@\d was trained on, \(32, 32\)"
    ) as found:
        assert embed(NAME, large).shape == (2, 64)
    assert [warning.filename for warning in found] == [__file__]


def test_jax_compiles_few_programs(monkeypatch):
    """Each number of images would be a program, which takes seconds to compile."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert [padded_size(count, 100) for count in (1, 2, 3, 5, 64, 65, 100, 900)] == [1, 2, 4, 8, 64, 100, 100, 100]
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    assert [padded_size(count, 100) for count in (3, 900)] == [3, 100]


def test_former_spelling():
    assert keras_resv2.embedding.nearest_neighbours is keras_resv2.nearest_neighbors


def test_embed_command_and_the_example_on_its_file(pixels, tmp_path, capsys):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, image in zip(paths, (pixels[0], pixels[1], pixels[0]), strict=True):
        Image.fromarray(image).save(path)
    out = tmp_path / "features.npz"
    assert cli.main(["embed", NAME, *paths, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == 64
    found = np.load(out)
    assert found["paths"].tolist() == paths and np.allclose(
        found["features"], embed(NAME, pixels[[0, 1, 0]]), atol=1e-5
    )
    command = [sys.executable, ROOT / "examples" / "nearest_neighbors.py", out]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[0].startswith("0.png: 2.png 1.00") and lines[2].startswith("2.png: 0.png 1.00")


def test_embed_rejects_an_invalid_output_path(tmp_path, capsys):
    assert cli.main(["embed", NAME, "a.png", "--out", str(tmp_path / "no" / "f.npz")]) == 2
    assert f"{tmp_path / 'no'} does not exist. Create it first" in capsys.readouterr().err
    assert cli.main(["embed", NAME, "a.png", "--out", str(tmp_path / "f.npy")]) == 2
    assert "must be an .npz file" in capsys.readouterr().err


def test_one_damaged_file_is_skipped_and_reported(pixels, tmp_path, capsys):
    good, broken, out = (str(tmp_path / name) for name in ("good.png", "broken.png", "f.npz"))
    Image.fromarray(pixels[0]).save(good)
    pathlib.Path(broken).write_bytes(b"")
    assert cli.main(["embed", NAME, broken, good, "--out", out]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and broken in said.err and said.out.startswith("1 x 64 features")
    with np.load(out) as found:
        assert found["paths"].tolist() == [good]
        np.testing.assert_allclose(found["features"], embed(NAME, pixels[:1]), atol=1e-5)
    assert cli.main(["embed", NAME, broken, "--out", str(tmp_path / "none.npz")]) == 2
    assert not (tmp_path / "none.npz").exists()


def test_adapters_change_the_embedding(pixels):
    """The model's body is kept between calls, but not when its variables are replaced."""
    model = keras_resv2.ResNet(8)
    before = embed(model, pixels)
    layer = model.get_layer("stage3_unit1_conv2")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    after = embed(model, pixels)
    merged = embed(keras_resv2.ResNet(8, weights=model_arrays(model)), pixels)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after, merged, atol=1e-4)
