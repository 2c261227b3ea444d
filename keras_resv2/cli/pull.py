"""keras-resv2 pull hf://..."""

import json

from keras_resv2.cli.terminal import print_json
from keras_resv2.hub.download import pull
from keras_resv2.storage.card import folder_of


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("reference", metavar="REFERENCE", help="hf://user/name or hf://user/name@revision")


def run(arguments):
    """Downloads weights and prints their card; returns the exit code."""
    card = pull(arguments.reference)
    if arguments.json:
        print_json({**json.loads(card.to_json()), "folder": str(card.folder)})
        return 0
    print(f"{card.full_name}: {card.architecture}, {card.parameters:,} parameters, {len(card.class_names)} classes")
    if card.test_error is None:
        print("  error: not measured")
    else:
        paper = "" if card.paper_error is None else f" (paper: {card.paper_error:.2f} %)"
        count = "" if card.test_images is None else f"{card.test_images:,} "
        print(f"  error: {card.test_error:.2f} % of {count}test images of {card.dataset}{paper}")
    print(f"  {folder_of(card) / card.file}")
    return 0
