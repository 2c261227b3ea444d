"""keras-resv2 push NAME_OR_FOLDER REPOSITORY, keras-resv2 pull hf://..."""

import json

from keras_resv2.commands.terminal import print_json, start_backend
from keras_resv2.hub.repository import pull, push


def add_push_arguments(parser):
    """Adds the arguments of `push` to an `argparse` parser."""
    parser.add_argument("source", metavar="NAME_OR_FOLDER", help="pretrained network, or folder with its card.json")
    parser.add_argument("repository", metavar="REPOSITORY", help="user/name on the Hugging Face Hub")
    parser.add_argument("--private", action="store_true", help="visible to its owner alone, where it is new")
    parser.add_argument("--base_model", metavar="USER/NAME", help="on the Hub, that the weights were fine-tuned from")


def run_push(arguments):
    """Uploads weights and prints what to load them by; returns the exit code."""
    start_backend()
    reference = push(arguments.repository, arguments.source, arguments.private, arguments.base_model)
    if arguments.json:
        print_json({"reference": reference})
    else:
        print(reference)
    return 0


def add_pull_arguments(parser):
    """Adds the arguments of `pull` to an `argparse` parser."""
    parser.add_argument("reference", metavar="REFERENCE", help="hf://user/name, or hf://user/name@revision")


def run_pull(arguments):
    """Fetches weights and prints their card; returns the exit code."""
    card = pull(arguments.reference)
    if arguments.json:
        print_json({**json.loads(card.to_json()), "folder": str(card.folder)})
        return 0
    print(f"{card.full_name}: {card.architecture}, {card.parameters:,} parameters, {len(card.class_names)} classes")
    if card.test_error is None:
        print("  error: not measured")
    else:
        paper = "" if card.paper_error is None else f" (the paper's: {card.paper_error:.2f} %)"
        print(f"  error: {card.test_error:.2f} % of {card.test_images:,} test images of {card.dataset}{paper}")
    print(f"  {card.folder / card.file}")
    return 0
