"""keras-resv2 predict NAME IMAGE..."""

import os

import numpy as np

from keras_resv2.cli.image_files import read_images, report_problems
from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.data.images import check_ending, draw_predictions
from keras_resv2.files import check_parent
from keras_resv2.labels import decode_predictions
from keras_resv2.pretrained import from_pretrained, pretrained_card


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, such as preact_resnet20-cifar10")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument("--top", type=int, default=5, help="labels per image (default 5)")
    parser.add_argument("--save", metavar="FILE", help="draw the images with labels and bars into FILE")


def run(arguments):
    """keras-resv2 predict NAME IMAGE..."""
    if arguments.top < 1:
        raise ValueError(f"--top {arguments.top} must be at least 1.")
    if arguments.save:
        check_ending(arguments.save)
        check_parent(arguments.save)
    card = pretrained_card(arguments.name)
    found, problems = read_images(arguments.images, card)
    ranked = {}
    if found:
        start_backend()
        images = np.stack(list(found.values()))
        # Keras also takes 0 or 1; the type is inferred from the default.
        probabilities = from_pretrained(arguments.name).predict(images, verbose=0)  # pyright: ignore[reportArgumentType]
        ranked = dict(zip(found, decode_predictions(probabilities, card, arguments.top), strict=True))
    if arguments.json:
        print_json([_entry(path, ranked.get(i), problems.get(i)) for i, path in enumerate(arguments.images)])
    else:
        for place, row in ranked.items():
            print(arguments.images[place])
            for label, p in row:
                print(f"  {100 * p:5.1f} %  {label:<12} {'#' * round(40 * p)}".rstrip())
    if ranked and arguments.save:  # last, so that a failed write does not lose the predictions
        captions = [os.path.basename(arguments.images[place]) for place in found]
        draw_predictions(list(found.values()), list(ranked.values()), arguments.save, captions)
    return report_problems(problems)


def _entry(path, row, problem):
    if problem:
        return {"image": path, "error": problem}
    return {"image": path, "predictions": [{"label": label, "probability": p} for label, p in row]}
