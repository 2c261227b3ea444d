"""keras-resv2 push NAME_OR_FOLDER REPOSITORY"""

from keras_resv2 import hub
from keras_resv2.cli.terminal import print_json, start_backend


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("source", metavar="NAME_OR_FOLDER", help="pretrained network, or folder with its card.json")
    parser.add_argument("repository", metavar="REPOSITORY", help="user/name on the Hugging Face Hub")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--base_model", metavar="USER/NAME", help="repository on the Hub that the weights were fine-tuned from"
    )


def run(arguments):
    """Uploads weights and prints the name to load them by; returns the exit code."""
    start_backend()
    reference = hub.push(arguments.repository, arguments.source, arguments.private, arguments.base_model)
    if arguments.json:
        print_json({"reference": reference})
    else:
        print(reference)
    return 0
