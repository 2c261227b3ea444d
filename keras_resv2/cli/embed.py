"""keras-resv2 embed NAME IMAGE... --out FILE"""

import numpy as np

from keras_resv2.cli.image_files import read_images, report_problems
from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.files import check_parent
from keras_resv2.pretrained import pretrained_card


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help=".npz file to write, with paths and features (n, channels)"
    )


def run(arguments):
    """keras-resv2 embed NAME IMAGE... --out FILE"""
    if not arguments.out.endswith(".npz"):
        raise ValueError(f"--out {arguments.out} must be an .npz file.")
    check_parent(arguments.out)
    card = pretrained_card(arguments.name)
    found, problems = read_images(arguments.images, card)
    left_out = {arguments.images[place]: problem for place, problem in problems.items()}
    if not found:
        if arguments.json:
            print_json({"name": card.full_name, "images": 0, "features": None, "left_out": left_out})
        return report_problems(problems)
    start_backend()
    from keras_resv2 import embedding

    features = embedding.embed(arguments.name, np.stack(list(found.values())))
    embedding.write_features(arguments.out, card.full_name, [arguments.images[place] for place in found], features)
    if arguments.json:
        print_json(
            {
                "name": card.full_name,
                "images": len(features),
                "features": features.shape[1],
                "left_out": left_out,
            }
        )
    else:
        print(f"{len(features)} x {features.shape[1]} features of {card.full_name}: {arguments.out}")
    return report_problems(problems)
