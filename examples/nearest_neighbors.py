"""Finds the most similar images among the 20 images of CIFAR-10 that the package foolbox contains.

    keras-resv2 embed preact_resnet20-cifar10 IMAGES... --out features.npz
    python examples/nearest_neighbors.py features.npz

Without features.npz the features are computed first. The classifier is not used: images are similar if the network's
features of them are.
"""

import argparse
import pathlib

import numpy as np
from demo import labelled_images

from keras_resv2 import embed, nearest_neighbors
from keras_resv2.data.images import read_image
from keras_resv2.pretrained import pretrained_card

NETWORK = "preact_resnet20-cifar10"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="?", help="file written by `keras-resv2 embed`")
    arguments = parser.parse_args()
    if arguments.features:
        found = np.load(arguments.features)
        names, features = [pathlib.Path(path).name for path in found["paths"]], found["features"]
    else:
        paths, labels = labelled_images()
        classes = pretrained_card(NETWORK).class_names
        names = [f"{path.name} ({classes[label]})" for path, label in zip(paths, labels, strict=True)]
        features = embed(NETWORK, np.stack([read_image(path, (32, 32)) for path in paths]))
    positions, similarities = nearest_neighbors(features, features, count=3)
    for row, name in enumerate(names):
        others = [(i, s) for i, s in zip(positions[row], similarities[row], strict=True) if i != row][:2]
        print(f"{name}: " + ", ".join(f"{names[i]} {s:.2f}" for i, s in others))


if __name__ == "__main__":
    main()
