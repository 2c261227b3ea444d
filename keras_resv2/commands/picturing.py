"""keras-resv2 predict NAME IMAGE..., keras-resv2 embed NAME IMAGE... --out FILE"""

import os
import sys

from keras_resv2.choices import one_line
from keras_resv2.commands.terminal import BAD_INPUT, print_json, start_backend
from keras_resv2.files import check_parent
from keras_resv2.pretrained import decode_predictions, from_pretrained, pretrained_card


def add_predict_arguments(parser):
    """Adds the arguments of `predict` to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, as preact_resnet20-cifar10")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument("--top", type=int, default=5, help="labels per image (default 5)")
    parser.add_argument("--save", metavar="FILE", help="draw the images with labels and bars into FILE")


def add_embed_arguments(parser):
    """Adds the arguments of `embed` to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument("--out", metavar="FILE", required=True, help=".npz for paths and features (n, channels)")


def run_predict(arguments):
    """keras-resv2 predict NAME IMAGE..."""
    from keras_resv2.data.images import check_ending, draw_predictions

    if arguments.top < 1:
        raise ValueError(f"--top {arguments.top} must be at least 1.")
    if arguments.save:
        check_ending(arguments.save)
        check_parent(arguments.save)
    card = pretrained_card(arguments.name)
    found, problems = _read_images(arguments.images, card)
    ranked = {}
    if found:
        start_backend()
        import numpy as np

        probabilities = from_pretrained(arguments.name).predict(np.stack(list(found.values())), verbose=0)
        ranked = dict(zip(found, decode_predictions(probabilities, card, arguments.top), strict=True))
        if arguments.save:
            captions = [os.path.basename(arguments.images[place]) for place in found]
            draw_predictions(list(found.values()), list(ranked.values()), arguments.save, captions)
    if arguments.json:
        print_json([_entry(path, ranked.get(i), problems.get(i)) for i, path in enumerate(arguments.images)])
    else:
        for place, row in ranked.items():
            print(arguments.images[place])
            for label, p in row:
                print(f"  {100 * p:5.1f} %  {label:<12} {'#' * round(40 * p)}".rstrip())
    return _report(problems)


def run_embed(arguments):
    """keras-resv2 embed NAME IMAGE... --out FILE"""
    if not arguments.out.endswith(".npz"):
        raise ValueError(f"--out {arguments.out} must be an .npz file.")
    check_parent(arguments.out)
    card = pretrained_card(arguments.name)
    found, problems = _read_images(arguments.images, card)
    if not found:
        return _report(problems)
    start_backend()
    import numpy as np

    from keras_resv2 import embedding

    features = embedding.embed(arguments.name, np.stack(list(found.values())))
    embedding.write_features(arguments.out, card.full_name, [arguments.images[place] for place in found], features)
    if arguments.json:
        print_json(
            {
                "name": card.full_name,
                "images": len(features),
                "features": features.shape[1],
                "left_out": {arguments.images[place]: problem for place, problem in problems.items()},
            }
        )
    else:
        print(f"{len(features)} x {features.shape[1]} features of {card.full_name}: {arguments.out}")
    return _report(problems)


def _read_images(paths, card):
    """The images that can be read, and what is wrong with the others, both by their places in `paths`."""
    from keras_resv2.data.images import read_image

    found, problems = {}, {}
    for place, path in enumerate(paths):
        try:
            found[place] = read_image(path, card.image_shape[:2])
        except (ValueError, OSError) as error:
            problems[place] = one_line(error)
    return found, problems


def _entry(path, row, problem):
    if problem:
        return {"image": path, "error": problem}
    return {"image": path, "predictions": [{"label": label, "probability": p} for label, p in row]}


def _report(problems):
    """Names the files that could not be read; the exit code says that there are some."""
    for problem in problems.values():
        print(f"keras-resv2: error: {problem}", file=sys.stderr)
    return BAD_INPUT if problems else 0
