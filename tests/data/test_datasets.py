"""The registry, custom arrays, and the same arrays from a tensorflow-datasets directory and an .npz file."""

import dataclasses

import numpy as np
import pytest

from keras_resv2 import data as datasets


@pytest.fixture(scope="module")
def twelve_images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 12)


@pytest.fixture(scope="module")
def tfds_dir(twelve_images, tmp_path_factory):
    """The dataset "cifar10" as prepared by tensorflow-datasets, with twelve images."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    official = tfds.builder_cls("cifar10")
    with tfds.core.registered.skip_registration():

        class Cifar10(official):
            def _split_generators(self, dl_manager):
                return {split: self._examples(split) for split in ("train", "test")}

            def _examples(self, split):
                for i, (image, label) in enumerate(zip(*twelve_images, strict=True)):
                    yield i, {"id": f"{split}_{i:05d}", "image": image, "label": int(label)}

    folder = tmp_path_factory.mktemp("tfds")
    Cifar10(data_dir=str(folder)).download_and_prepare()
    return folder


def test_tfds_and_npz_are_the_same(tfds_dir, twelve_images, tmp_path):
    images, labels = twelve_images
    np.savez(tmp_path / "c.npz", x_train=images, y_train=labels[:, None], x_test=images, y_test=labels)
    for split in ("train", "test"):
        for place in (str(tfds_dir), str(tmp_path / "c.npz")):
            found_images, found_labels = datasets.load_split("cifar10", split, place)
            np.testing.assert_array_equal(found_images, images)
            np.testing.assert_array_equal(found_labels, labels)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_datasets_of_keras_are_channels_last(data_format, twelve_images, monkeypatch):
    """Keras returns them in the configured format."""
    images, labels = twelve_images
    given = images if data_format == "channels_last" else images.transpose(0, 3, 1, 2)
    splits = 2 * ((given, labels[:, None]),)
    monkeypatch.setattr("keras.datasets.cifar10.load_data", lambda: splits)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # tensorflow-datasets is not installed
    found, found_labels = datasets.load_split("cifar10", "test")
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_labels, labels)


def test_fingerprint_knows_images_and_labels(twelve_images):
    images, labels = twelve_images
    prints = [
        datasets.fingerprint(images, labels),
        datasets.fingerprint(images[::-1], labels),
        datasets.fingerprint(images, labels[::-1]),
    ]
    assert len(set(prints)) == 3 and prints[0] == datasets.fingerprint(images.copy(), labels.astype("uint8"))


@pytest.mark.parametrize(
    "arrays, words",
    [
        (dict(x_test=np.zeros((4, 32, 32, 3), "float32"), y_test=np.zeros(4)), "float32"),
        (dict(x_test=np.zeros((4, 32, 32, 3), "uint8"), y_test=np.zeros(3)), "4 images but 3 labels"),
        (dict(x_test=np.zeros((4, 32, 32, 3), "uint8"), y_test=np.full(4, 10)), "0 to 9"),
        (dict(x_test=np.zeros((0, 32, 32, 3), "uint8"), y_test=np.zeros(0)), "contains no images"),
        (dict(x_test=np.zeros((4, 32, 32, 3), "uint8")), "does not contain y_test"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        datasets.load_split("cifar10", "test", tmp_path / "c.npz")


def test_unknown_datasets_and_splits():
    with pytest.raises(ValueError, match="'cifar10'"):
        datasets.load_split("cifar", "test")
    with pytest.raises(ValueError, match="'train', 'test'"):
        datasets.load_split("cifar10", "validation")


# CIFAR-100


def test_published_statistics_of_cifar100():
    """Compares with published values on the 0-1 scale, to four decimals."""
    row = datasets.DATASETS["cifar100"]
    np.testing.assert_allclose(np.array(row.mean) / 255, (0.5071, 0.4865, 0.4409), atol=6e-5)
    np.testing.assert_allclose(np.array(row.std) / 255, (0.2673, 0.2564, 0.2762), atol=6e-5)
    # The order of tensorflow-datasets and of the archive is that of the alphabet.
    assert len(set(row.class_names)) == 100 and list(row.class_names) == sorted(row.class_names)
    assert [row.class_names[i] for i in (0, 19, 49, 99)] == ["apple", "cattle", "mountain", "worm"]


def test_statistics_and_classes_of_cifar100(cifar100):
    images, labels = datasets.load_split("cifar100", "train", cifar100)
    row = datasets.DATASETS["cifar100"]
    for channel in range(3):
        assert row.mean[channel] == pytest.approx(images[..., channel].mean(), abs=5.1e-4)
        assert row.std[channel] == pytest.approx(images[..., channel].std(), abs=5.1e-4)
    assert datasets.measure_pixels(images) == row.pixels
    assert np.bincount(labels).tolist() == [500] * 100
    # Classes whose color is known: the sea is bluest at its mean, sunflowers are the least blue.
    shown = ("sea", "cloud", "sunflower", "orange")
    named = {name: images[labels == row.class_names.index(name)].mean((0, 1, 2)) for name in shown}
    assert named["sea"][2] > named["sea"][0] and named["cloud"][2] > named["cloud"][0]
    assert named["sunflower"][2] < 0.6 * named["sunflower"][0] and named["orange"][2] < 0.6 * named["orange"][0]


# Arrays of one's own


GOOD = dict(
    x_train=np.arange(6 * 4 * 5 * 3, dtype="uint8").reshape(6, 4, 5, 3),
    y_train=np.arange(6) % 3,
    x_test=np.zeros((2, 4, 5, 3), "uint8"),
    y_test=np.array([2, 0]),
)


def save(folder, **changes):
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def test_arrays_say_what_the_dataset_is(tmp_path):
    path = save(tmp_path)
    found = datasets.open_dataset("arrays", path)
    pixels = GOOD["x_train"].reshape(-1, 3).astype("float64")
    assert found.class_names == ("class 0", "class 1", "class 2") and found.image_shape == (4, 5, 3)
    np.testing.assert_allclose(found.mean, pixels.mean(0), atol=5.1e-4)
    np.testing.assert_allclose(found.std, pixels.std(0), atol=5.1e-4)
    for name in ("arrays", found):
        images, labels = datasets.load_split(name, "test", path)
        assert labels.tolist() == [2, 0] and images.shape == (2, 4, 5, 3)
    named = datasets.open_dataset("arrays", save(tmp_path, class_names=np.array(["x", "y", "z", "none of them"])))
    assert named.class_names == ("x", "y", "z", "none of them")
    file = save(tmp_path, class_names=np.array(["y", "x", "z"]))
    card_order = datasets.Dataset("mine", ("x", "y", "z"), named.image_shape)
    stored, ordered = (
        datasets.load_split(row, "train", file)[1] for row in (datasets.open_dataset("arrays", file), card_order)
    )
    np.testing.assert_array_equal(ordered, np.array([1, 0, 2])[stored])
    unnamed = datasets.Dataset("unknown", ("class 0", "class 1", "class 2"), named.image_shape)
    np.testing.assert_array_equal(datasets.load_split(unnamed, "train", file)[1], stored)
    with pytest.raises(ValueError, match=r"its class_names \(y, x, z\) are not the classes of mine \(x, y, w\)"):
        datasets.load_split(datasets.Dataset("mine", ("x", "y", "w"), named.image_shape), "train", file)
    binary = datasets.open_dataset("arrays", save(tmp_path, class_names=np.array([b"x", b"y", b"z"])))
    assert binary.class_names == ("x", "y", "z")


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1)])
def test_grey_arrays_have_three_equal_channels(shape, tmp_path):
    grey = GOOD["x_train"][..., 0]
    path = save(tmp_path, x_train=grey.reshape(shape))
    images, _ = datasets.load_split("arrays", "train", path)
    np.testing.assert_array_equal(images, np.stack([grey] * 3, axis=-1))
    mean, std = datasets.open_dataset("arrays", path).pixels
    assert mean == pytest.approx([grey.mean()] * 3, abs=5.1e-4) and std == pytest.approx([grey.std()] * 3, abs=5.1e-4)


def test_a_channel_without_contrast_can_be_divided_by():
    images = np.zeros((2, 3, 3, 3), "uint8")
    images[0, ..., 1] = 200
    assert datasets.measure_pixels(images) == ((0, 100, 0), (1, 100, 1))


@pytest.mark.parametrize("changes, words", [
    (dict(x_train=GOOD["x_train"] / np.float32(255)), "images have the dtype float32: pixels must be uint8"),
    (dict(x_train=GOOD["x_train"].transpose(0, 3, 1, 2)), r"x.transpose\(0, 2, 3, 1\) moves the channels last"),
    (dict(x_train=np.zeros((6, 4, 5, 4), "uint8")), r"must be \(n, height, width, 3\)"),
    (dict(y_train=np.eye(3)[[0, 1, 2, 0, 1, 2]]), r"labels.argmax\(axis=1\) converts one-hot rows"),
    (dict(y_train=np.array(list("abcabc"))), "must be class indices from 0; class_names, y = np.unique"),
    (dict(y_train=np.array([0.5] * 6)), "must be class indices from 0"),
    (dict(y_train=np.arange(6) % 3 + 1), "without gaps, but class 0 has no images"),
    (dict(y_train=np.arange(6) - 1), "there is a label -1"),
    (dict(y_train=np.zeros(6, int)), "1 classes have 1 distinct names"),
    (dict(y_train=np.arange(5)), "6 images but 5 labels"),
    (dict(class_names=np.array(["a", "b"])), "class_names has 2 names"),
    (dict(class_names=np.array(["a", "b", "a"])), "3 classes have 2 distinct names"),
    (dict(class_names=np.array(["a", "b", None])), "not a readable .npz file of images and labels"),
    (dict(y_test=np.array([0, 3])), "labels of test range from 0 to 3; those of arrays must be from 0 to 2"),
    (dict(x_test=np.zeros((2, 5, 4, 3), "uint8")),
     r"images of test have the shape \(2, 5, 4, 3\), arrays has \(n, 4, 5, 3\)"),
    (dict(x_test=None), "does not contain x_test"),
])  # fmt: skip
def test_arrays_that_are_refused(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words) as raised:
        datasets.load_split("arrays", "test", save(tmp_path, **changes))
    assert "\n" not in str(raised.value)


def test_arrays_need_a_file(tmp_path):
    for place in (None, tmp_path, tmp_path / "none.npz"):
        with pytest.raises(FileNotFoundError, match="not an existing file"):
            datasets.open_dataset("arrays", place)


def test_fingerprints_know_labels_beyond_255():
    images = np.zeros((2, 4, 4, 3), "uint8")
    assert datasets.fingerprint(images, np.array([0, 256])) != datasets.fingerprint(images, np.array([0, 0]))


def test_a_complete_split_has_all_classes(tmp_path):
    """Labels of CIFAR-10 are valid for CIFAR-100; only classes that are missing tell. Parts may lack some."""
    images, labels = np.zeros((200, 32, 32, 3), "uint8"), np.arange(200) % 10
    np.savez(tmp_path / "ten.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    row = dataclasses.replace(datasets.DATASETS["cifar100"], examples={"train": 200, "test": 200})
    with pytest.raises(ValueError, match="labels of 10 classes; cifar100 has 100: these are the images of another"):
        datasets.load_split(row, "train", tmp_path / "ten.npz")
    assert len(datasets.load_split(row, "test", tmp_path / "ten.npz")[1]) == 50
