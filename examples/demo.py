"""Classifies the 20 labeled images of CIFAR-10 that the package foolbox contains.

    python examples/demo.py --save predictions.png

They are the first images of the test set: no network here was trained on them.
"""

import argparse
import importlib.util
import pathlib
import sys

import numpy as np

import keras_resv2
from keras_resv2.cli.terminal import start_backend
from keras_resv2.data.images import draw_predictions, read_image

NETWORKS = ("resnet20-cifar10", "preact_resnet20-cifar10")
DRAWN = "preact_resnet20-cifar10"


def labelled_images():
    """Paths and labels: foolbox names its images cifar10_<number>_<label>.png."""
    package = importlib.util.find_spec("foolbox")
    if package is None:
        sys.exit("the demo needs images of the package foolbox: pip install --no-deps foolbox==3.3.4")
    paths = sorted(pathlib.Path(package.origin).parent.glob("data/cifar10_*.png"))
    return paths, np.array([int(path.stem.rpartition("_")[2]) for path in paths])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", default="predictions.png", help="image of the predictions")
    arguments = parser.parse_args()
    paths, labels = labelled_images()
    start_backend()  # without messages of TensorFlow
    pixels = np.stack([read_image(path, (32, 32)) for path in paths])
    for name in NETWORKS:
        card = keras_resv2.pretrained_card(name)
        probabilities = keras_resv2.from_pretrained(name).predict(pixels, verbose=0)
        right = int(np.sum(probabilities.argmax(1) == labels))
        print(f"{card.full_name}: {right} of {len(labels)} right, {100 * right / len(labels):.0f} %", end=" ")
        print(f"(of the 10,000 test images {100 - card.test_error:.2f} %)")
        if name == DRAWN:
            draw(card, pixels, labels, probabilities, arguments.save)
            print(f"predictions for each image: {arguments.save}")


def draw(card, pixels, labels, probabilities, path):
    """Draws the predictions, with the true classes as captions."""
    ranked = [[(card.class_names[i], float(p[i])) for i in np.argsort(-p)] for p in probabilities]
    draw_predictions(pixels, ranked, path, [f"true: {card.class_names[label]}" for label in labels])


if __name__ == "__main__":
    main()
