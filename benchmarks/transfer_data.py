"""Public sets of labeled images, for `benchmarks.transfer`."""

import gzip
import json
import pathlib

import numpy as np

from keras_resv2.transfer import prepare_images, split_images

SIZE = (32, 32)
TEST_AT_MOST = 2000
EMOJI_TEST_SHARE, DIGITS_TEST_SHARE = 0.25, 0.25


def fashion_mnist(folder):
    """Reads Fashion-MNIST (Xiao et al. 2017): 28x28 grayscale images of 10 kinds of clothes.

    Args:
        folder: path of the four ``*-ubyte.gz`` files; Debian's package `dataset-fashion-mnist` installs them in
            /usr/share/datasets/fashion-mnist.

    Returns:
        ``(train, test)``, each ``(images, labels)``; test are its first 2,000 test images.
    """
    parts = []
    for name, most in (("train", None), ("t10k", TEST_AT_MOST)):
        images = _idx(pathlib.Path(folder, f"{name}-images-idx3-ubyte.gz"))[:most]
        labels = _idx(pathlib.Path(folder, f"{name}-labels-idx1-ubyte.gz"))[:most]
        parts.append((prepare_images(images, SIZE), labels.astype("int32")))
    return tuple(parts)


def _idx(path):
    content = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, 4 + 4 * content[3], 4)]
    return np.frombuffer(content, "uint8", offset=4 + 4 * len(shape)).reshape(shape)


def digits(folder=None):
    """Loads scikit-learn's 1,797 handwritten digits, 8x8, grayscale; a quarter of them is the test set."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * (255 / 16)).round().astype("uint8")
    return _split(prepare_images(images, SIZE), labels, DIGITS_TEST_SHARE)


def emoji(folder):
    """Reads emoji by their group: 64x64 color drawings, 9 groups (animals, flags, food, ...), 1,906 images.

    Args:
        folder: path of the unpacked npm package `emoji-datasource-twitter` (its emoji.json and img/).
    """
    from keras_resv2.data.images import read_image

    table = json.loads(pathlib.Path(folder, "emoji.json").read_text(encoding="utf-8"))
    rows = [row for row in table if row["has_img_twitter"] and row["category"] != "Component"]
    groups = sorted({row["category"] for row in rows})
    images = [read_image(pathlib.Path(folder, "img/twitter/64", row["image"]), SIZE) for row in rows]
    return _split(np.stack(images), np.array([groups.index(row["category"]) for row in rows]), EMOJI_TEST_SHARE)


def _split(images, labels, test_share):
    labels = labels.astype("int32")
    return tuple((images[part], labels[part]) for part in split_images(labels, (1 - test_share, test_share)))


DATASETS = {"fashion_mnist": fashion_mnist, "digits": digits, "emoji": emoji}
UPRIGHT = ("digits",)  # mirrored, they are other digits or none
