"""keras-resv2 predict NAME IMAGE..., keras-resv2 embed NAME IMAGE... --out FILE"""

import os

from keras_resv2.commands.terminal import print_json, start_backend
from keras_resv2.pretrained import decode_predictions, from_pretrained, pretrained_card


def add_predict_arguments(parser):
    """Adds the arguments of `predict` to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, as preact_resnet20-cifar10")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture")
    parser.add_argument("--top", type=int, default=5, help="labels per picture (default 5)")
    parser.add_argument("--save", metavar="FILE", help="draw the pictures with labels and bars into FILE")


def add_embed_arguments(parser):
    """Adds the arguments of `embed` to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture")
    parser.add_argument("--out", metavar="FILE", required=True, help=".npz for paths and features (n, channels)")


def run_predict(arguments):
    """keras-resv2 predict NAME IMAGE..."""
    from keras_resv2.data.images import check_ending, draw_predictions, read_image

    if arguments.top < 1:
        raise ValueError(f"--top {arguments.top} must be at least 1.")
    if arguments.save:
        check_ending(arguments.save)
    card = pretrained_card(arguments.name)
    images = [read_image(path, card.image_shape[:2]) for path in arguments.images]
    start_backend()
    import numpy as np

    probabilities = from_pretrained(arguments.name).predict(np.stack(images), verbose=0)
    ranked = decode_predictions(probabilities, card, arguments.top)
    if arguments.save:
        draw_predictions(images, ranked, arguments.save, [os.path.basename(path) for path in arguments.images])
    if arguments.json:
        print_json(
            [
                {"image": path, "predictions": [{"label": label, "probability": p} for label, p in row]}
                for path, row in zip(arguments.images, ranked, strict=True)
            ]
        )
        return 0
    for path, row in zip(arguments.images, ranked, strict=True):
        print(path)
        for label, p in row:
            print(f"  {100 * p:5.1f} %  {label:<12} {'#' * round(40 * p)}".rstrip())
    return 0


def run_embed(arguments):
    """keras-resv2 embed NAME IMAGE... --out FILE"""
    from keras_resv2.data.images import read_image

    folder = os.path.dirname(os.path.abspath(arguments.out))
    if not arguments.out.endswith(".npz") or not os.path.isdir(folder):
        raise ValueError(f"--out {arguments.out} must be an .npz file in a folder that exists.")
    card = pretrained_card(arguments.name)
    images = [read_image(path, card.image_shape[:2]) for path in arguments.images]
    start_backend()
    import numpy as np

    from keras_resv2 import embedding

    features = embedding.embed(arguments.name, np.stack(images))
    embedding.write_features(arguments.out, card.full_name, arguments.images, features)
    if arguments.json:
        print_json({"name": card.full_name, "images": len(features), "features": features.shape[1]})
    else:
        print(f"{len(features)} x {features.shape[1]} features of {card.full_name}: {arguments.out}")
    return 0
