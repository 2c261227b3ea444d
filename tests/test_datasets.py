"""A tensorflow-datasets directory and an .npz file of the same pictures give the same arrays."""

import numpy as np
import pytest

from keras_resv2 import data as datasets


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 12)


@pytest.fixture(scope="module")
def tfds_dir(pictures, tmp_path_factory):
    """The dataset "cifar10" as tensorflow-datasets prepares it, of twelve pictures."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    official = tfds.builder_cls("cifar10")
    with tfds.core.registered.skip_registration():

        class Cifar10(official):
            def _split_generators(self, dl_manager):
                return {split: self._examples(split) for split in ("train", "test")}

            def _examples(self, split):
                for i, (image, label) in enumerate(zip(*pictures, strict=True)):
                    yield i, {"id": f"{split}_{i:05d}", "image": image, "label": int(label)}

    folder = tmp_path_factory.mktemp("tfds")
    Cifar10(data_dir=str(folder)).download_and_prepare()
    return folder


def test_tfds_and_npz_are_the_same(tfds_dir, pictures, tmp_path):
    images, labels = pictures
    np.savez(tmp_path / "c.npz", x_train=images, y_train=labels[:, None], x_test=images, y_test=labels)
    for split in ("train", "test"):
        for place in (str(tfds_dir), str(tmp_path / "c.npz")):
            found_images, found_labels = datasets.load_split("cifar10", split, place)
            np.testing.assert_array_equal(found_images, images)
            np.testing.assert_array_equal(found_labels, labels)


def test_fingerprint_knows_pictures_and_labels(pictures):
    images, labels = pictures
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
        (dict(x_test=np.zeros((0, 32, 32, 3), "uint8"), y_test=np.zeros(0)), "holds no images"),
        (dict(x_test=np.zeros((4, 32, 32, 3), "uint8")), "no y_test"),
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
