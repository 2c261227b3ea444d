"""Classifies the 20 labelled pictures of CIFAR-10 that the package foolbox contains.

    python examples/demo.py --save predictions.png

They are the first of the test set: no network here was trained on them.
"""

import argparse
import importlib.util
import pathlib
import sys

import numpy as np

import keras_resv2
from keras_resv2.images import draw_predictions, read_image

NETWORKS = ("resnet20-cifar10", "preact_resnet20-cifar10")


def labelled_pictures():
    """Paths and labels: foolbox names its pictures cifar10_<number>_<label>.png."""
    package = importlib.util.find_spec("foolbox")
    if package is None:
        sys.exit("the demo's pictures are in the package foolbox: pip install --no-deps foolbox")
    paths = sorted(pathlib.Path(package.origin).parent.glob("data/cifar10_*.png"))
    return paths, np.array([int(path.stem.rpartition("_")[2]) for path in paths])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", default="predictions.png", help="picture of the predictions")
    arguments = parser.parse_args()
    paths, labels = labelled_pictures()
    for name in NETWORKS:
        card, model = keras_resv2.pretrained_card(name), keras_resv2.from_pretrained(name)
        pixels = np.stack([read_image(path, model.input_shape[1:3]) for path in paths])
        probabilities = model.predict(pixels, verbose=0)
        right = int(np.sum(probabilities.argmax(1) == labels))
        print(f"{card.full_name}: {right} of {len(labels)} pictures right (on 10,000: {100 - card.test_error:.2f} %)")
    ranked = [[(card.class_names[i], float(p[i])) for i in np.argsort(-p)] for p in probabilities]
    captions = [f"{card.class_names[label]} ({path.stem})" for path, label in zip(paths, labels, strict=True)]
    draw_predictions(pixels, ranked, arguments.save, captions)
    print(f"{card.full_name} on each picture: {arguments.save}")


if __name__ == "__main__":
    main()
