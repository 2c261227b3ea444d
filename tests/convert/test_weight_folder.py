"""A network in memory as a weight folder, the --out of a fine-tuning as a name, and class folders for any network."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2 import cli
from keras_resv2.labels import dataset_of
from keras_resv2.transfer import body_of

NAMES = ["cat", "dog", "fox"]


@pytest.mark.parametrize(
    "made",
    [
        {"activation": "full_preactivation"},
        {"rolled": True, "projection": "B"},
        {"preprocessing": ((100.0, 110.0, 120.0), (50.0, 60.0, 70.0))},
    ],
)
def test_a_network_in_memory_becomes_a_pretrained_one(made, pixels, tmp_path):
    model = keras_resv2.ResNet(20, classes=3, **made)
    folder = keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path, license="MIT")
    assert folder == tmp_path / "mine-pets" / "1"
    card = keras_resv2.pretrained_card(folder)
    architecture = "preact_resnet20" if "activation" in made else "resnet20"
    assert (card.architecture, card.dataset, card.license) == (architecture, "pets", "MIT")
    assert set(card.arguments) == set(made) - {"activation", "rolled"}
    assert card.test_error is None and card.image_shape == (32, 32, 3)
    opened = keras_resv2.from_pretrained(folder)
    features = [body_of(network).predict(pixels, verbose=0) for network in (model, opened)]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-5)
    scores = model.predict(pixels, verbose=0)
    named = keras_resv2.decode_predictions(scores, folder, top=1)
    assert [row[0][0] for row in named] == [NAMES[i] for i in scores.argmax(1)]
    for holder in (tmp_path, folder.parent):  # what holds one weight folder stands for it
        assert keras_resv2.pretrained_card(holder).full_name == "mine-pets@1"
    test = ("measured", "before")  # which would fail otherwise: what is wrong is said before the measurement
    with pytest.raises(FileExistsError, match="already exists"):
        keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path, test=test)
    with pytest.raises(ValueError, match="license"):
        keras_resv2.save_weight_folder(model, "bad-pets", NAMES, tmp_path, license="two\nlines", test=test)
    keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path, version=2)
    assert keras_resv2.pretrained_card(tmp_path).version == 2
    keras_resv2.save_weight_folder(model, "other-pets", NAMES, tmp_path)
    with pytest.raises(ValueError, match="several weight folders, mine-pets, other-pets"):
        keras_resv2.pretrained_card(tmp_path)


def test_the_base_and_the_error_are_on_the_card(pixels, tmp_path):
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=3)
    labels = model.predict(pixels, verbose=0).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    folder = keras_resv2.save_weight_folder(
        model, "resnet20-pets", NAMES, tmp_path, base="resnet20-cifar10", test=(pixels, labels), facts={"seed": 4}
    )
    card = keras_resv2.pretrained_card(folder)
    assert (card.test_error, card.test_images, card.seed) == (25.0, 8, 4)
    base = keras_resv2.pretrained_card("resnet20-cifar10")
    assert card.origin["file"] == base.full_name and card.license == base.license


@pytest.mark.parametrize("depth, variant, architecture", [
    (8, {}, "resnet8"),
    (11, {"activation": "full_preactivation"}, "preact_resnet11"),
    (8, {"output_stride": 1, "projection": "C"}, "resnet8"),
    (11, {"output_stride": 1, "stride_on": "3x3"}, "resnet11"),
    (11, {"output_stride": 2}, "resnet11"),
    (20, {"branch": "bottleneck"}, "resnet20"),
    (8, {"shortcut": "none", "activation": "full_preactivation"}, "preact_resnet8"),
    (8, {"activation": "full_preactivation", "width": 2, "projection": "A"}, "wide_resnet10_2"),
])  # fmt: skip
def test_any_depth_is_saved(depth, variant, architecture, pixels, tmp_path):
    """Of 6n+2 and 9n+2 layers, as `convert` takes them."""
    model = keras_resv2.ResNet(depth, **variant, classes=3)
    folder = keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path)
    assert keras_resv2.pretrained_card(folder).architecture == architecture
    features = [body_of(net).predict(pixels, verbose=0) for net in (model, keras_resv2.from_pretrained(folder))]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-5)


def test_a_dilated_network_is_saved_with_its_base(pixels, tmp_path):
    """The shapes of the weights do not show the dilation."""
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=3, output_stride=2)
    folder = keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path, base="resnet20-cifar10")
    assert keras_resv2.pretrained_card(folder).arguments == {"output_stride": 2}
    opened = keras_resv2.from_pretrained(folder)
    np.testing.assert_allclose(opened.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-5)


def test_a_softmax_layer_is_saved_as_the_activation(pixels, tmp_path):
    logits = keras_resv2.ResNet(8, classes=3, classifier_activation=None)
    model = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    opened = keras_resv2.from_pretrained(keras_resv2.save_weight_folder(model, "mine-pets", NAMES, tmp_path))
    found, expected = (network.predict(pixels, verbose=0) for network in (opened, model))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def changed():
    model = keras_resv2.ResNet(8, classes=3)
    x = keras.layers.Rescaling(0.5, name="half")(model.get_layer("head_pool").output)
    return keras.Model(model.input, model.get_layer("head_dense")(x))


BAD = {
    "names": (lambda: keras_resv2.ResNet(20, classes=3), {"class_names": ["a"]}, "a list of 3 names"),
    "twice": (lambda: keras_resv2.ResNet(20, classes=3), {"class_names": ["a", "a", "b"]}, "must be different"),
    "path": (lambda: keras_resv2.ResNet(20, classes=3), {"name": "../x"}, "name"),
    "version": (lambda: keras_resv2.ResNet(20, classes=3), {"version": 0}, "version"),
    "activation": (lambda: keras_resv2.ResNet(8, classes=3, activation="bn_after_addition"), {}, "list_architectures"),
    "changed": (changed, {}, "other outputs"),
    "pixels": (
        lambda: keras_resv2.ResNet(20, classes=3, include_preprocessing=False),
        {},
        "include_preprocessing=True",
    ),
    "pixels of half precision": (
        lambda: keras_resv2.ResNet(20, classes=3, include_preprocessing=False, dtype="mixed_bfloat16"),
        {"base": "resnet20-cifar10"},
        "include_preprocessing=True",
    ),
    "half precision": (
        lambda: keras_resv2.ResNet(20, classes=3, preprocessing=([0] * 3, [255] * 3), dtype="mixed_bfloat16"),
        {"base": "resnet20-cifar10"},
        "other outputs",
    ),
    "channels": (lambda: keras_resv2.ResNet(20, classes=3, input_shape=(32, 32, 1)), {}, "1 channels"),
    "base": (lambda: keras_resv2.ResNet(20, classes=3), {"base": "preact_resnet20-cifar10"}, "not its base"),
    "no classifier": (lambda: keras_resv2.ResNet(20, include_top=False), {}, "Dense layer"),
    "none": (lambda: "resnet20", {}, "keras.Model"),
    "facts": (lambda: keras_resv2.ResNet(20, classes=3), {"facts": {"seed": "x"}}, "seed"),
    "name of a fact": (lambda: keras_resv2.ResNet(20, classes=3), {"facts": {"comit": "x"}}, "did you mean commit"),
    "shortcut": (lambda: keras_resv2.ResNet(20, classes=3, shortcut="constant_scaling"), {}, "pass base"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_models_are_refused_and_nothing_is_written(case, tmp_path):
    make, arguments, words = BAD[case]
    arguments = {"name": "x-y", "class_names": NAMES, "folder": tmp_path / "out", **arguments}
    with pytest.raises(ValueError, match=words):
        keras_resv2.save_weight_folder(make(), **arguments)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two class folders of CIFAR-10's names, three images each, one of them damaged."""
    root, rng = tmp_path_factory.mktemp("classes") / "images", np.random.default_rng(0)
    for name in ("cat", "ship"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            image = rng.integers(0, 256, (40, 50, 3), dtype="uint8")
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("split", [False, True])
def test_evaluate_takes_class_folders(split, folders, tmp_path, capsys, monkeypatch):
    """Of a network whose dataset comes otherwise: labels are the places of the names among its classes."""
    data = folders
    if split:
        data = tmp_path / "data"
        for part in ("train", "test"):
            shutil.copytree(folders, data / part)
    network = keras_resv2.from_pretrained("resnet20-cifar10")
    images = [keras_resv2.read_image(path, (32, 32)) for path in sorted(folders.glob("*/*.png"))]
    wrong = network.predict(np.stack(images), verbose=0).argmax(1) != [3, 3, 3, 8, 8, 8]
    assert cli.main(["evaluate", "resnet20-cifar10", "--data_dir", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 6 and result["measured_error"] == pytest.approx(100 * wrong.mean())
    # Folders are sorted by class: a part of the images has some of every class, and only these are decoded.
    monkeypatch.setattr(cli.evaluate, "QUICK_IMAGES", 2)
    read, decode = [], keras_resv2.data.folders.read_image
    monkeypatch.setattr(keras_resv2.data.folders, "read_image", lambda *a: read.append(a) or decode(*a))
    assert cli.main(["evaluate", "resnet20-cifar10", "--data_dir", str(data), "--json", "--quick"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 2 and result["measured_error"] == 100 * wrong[[0, 5]].mean() and result["agrees"] is None
    assert len(read) == 2


def test_folders_of_other_classes_are_refused(folders, tmp_path, capsys):
    shutil.copytree(folders, tmp_path / "more")
    (tmp_path / "more" / "teapot").mkdir()
    shutil.copy(folders / "cat" / "0.png", tmp_path / "more" / "teapot")
    assert cli.main(["evaluate", "resnet20-cifar10", "--data_dir", str(tmp_path / "more")]) == cli.BAD_INPUT
    assert "contains teapot, not one of the classes" in capsys.readouterr().err


def test_the_dataset_of_a_card_in_a_place(folders, tmp_path):
    card = keras_resv2.pretrained_card("resnet20-cifar10")
    assert dataset_of(card, None).tfds == ("cifar10",) and dataset_of(card, folders).tfds == ()
    (tmp_path / "cifar10").mkdir()  # as tensorflow-datasets prepares it
    shutil.copytree(folders / "cat", tmp_path / "cat")
    assert dataset_of(card, tmp_path).tfds == ("cifar10",)


def test_finetune_is_a_command_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["finetune", "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "--data" in printed and "--learning_rate" in printed
    assert cli.main(["finetune", "resnet20-cifar10", "--data", "no/such/folder", "--out", "x"]) == cli.BAD_INPUT
    assert "is not a folder that exists" in capsys.readouterr().err


def test_a_fine_tuned_network_of_a_streamed_dataset_is_evaluated_on_arrays(folders, tmp_path, capsys):
    """Fine-tuning resizes images of all sizes; the dataset's own evaluation crops them."""
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=2)
    files = sorted(folders.glob("*/*.png"))
    test = np.stack([keras_resv2.read_image(path, (32, 32)) for path in files]), np.array([0, 0, 0, 1, 1, 1])
    folder = keras_resv2.save_weight_folder(
        model, "resnet20-imagenette", ["cat", "ship"], tmp_path, base="resnet20-cifar10", test=test
    )
    assert cli.main(["evaluate", str(folder), "--data_dir", str(folders), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["agrees"] and result["measured_error"] == pytest.approx(result["card_error"])
    options = keras_resv2.pretrained_card(folder).image_options  # and `predict` shows it the same pixels
    assert options == {"size": (32, 32), "crop": 1.0, "interpolation": "bicubic"}


@pytest.fixture
def tuned_on_small_cifar(pixels, tmp_path):
    """A network for 16x16 images of two CIFAR-10 classes in another order, and files of 32x32 images."""
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=2, input_shape=(16, 16, 3))
    images = keras_resv2.prepare_images(pixels, (16, 16))
    labels = model.predict(images, verbose=0).argmax(1)
    labels[:2] = 1 - labels[:2]
    folder = keras_resv2.save_weight_folder(
        model, "resnet20-cifar10", ["ship", "cat"], tmp_path / "tuned", base="resnet20-cifar10", test=(images, labels)
    )
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    names = np.array(["cat", "ship"])
    np.savez(
        tmp_path / "b.npz", x_train=pixels, y_train=1 - labels, x_test=pixels, y_test=1 - labels, class_names=names
    )
    return folder, tmp_path


@pytest.mark.parametrize("file", ["a.npz", "b.npz"])
def test_a_network_that_was_fine_tuned_at_another_size_is_evaluated(file, tuned_on_small_cifar, capsys):
    """Images are resized as in fine-tuning; class names in the file determine the order of its labels."""
    folder, place = tuned_on_small_cifar
    assert cli.main(["evaluate", str(folder), "--data_dir", str(place / file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["measured_error"] == result["card_error"] == 25.0 and result["agrees"]


def test_only_calibration_images_are_decoded_from_disk(folders, monkeypatch):
    from keras_resv2.cli import export
    from keras_resv2.data import sources

    card, decoded = keras_resv2.pretrained_card("resnet20-cifar10"), []
    decode = sources.decode_image
    monkeypatch.setattr(
        sources, "decode_image", lambda *given, **options: decoded.append(given[1]) or decode(*given, **options)
    )
    found = export._training_images(card, str(folders), 2)
    assert found.shape == (2, 32, 32, 3) and [place.split("/")[-2:] for place in decoded] == [
        ["cat", "0.png"],
        ["ship", "2.png"],
    ]
    np.testing.assert_array_equal(found[1], keras_resv2.read_image(decoded[1], **card.image_options))


def test_an_error_of_unknown_images_is_quoted_without_their_number(folders, tmp_path, capsys):
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=2)
    folder = keras_resv2.save_weight_folder(
        model, "resnet20-two", ["cat", "ship"], tmp_path, base="resnet20-cifar10", facts={"test_error": 9.1}
    )
    assert cli.main(["evaluate", str(folder), "--data_dir", str(folders)]) == 0
    assert "9.10 % refers to other images" in capsys.readouterr().out


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def test_channels_first(channels_first, capsys):
    """Networks are built in the configured data format; the commands, which read files, build all channels last."""
    assert keras_resv2.from_pretrained("resnet20-cifar10").input_shape == (None, 3, 32, 32)
    assert cli.main(["summary", "resnet20-cifar10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == [32, 32, 3]
