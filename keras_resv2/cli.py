"""The command line: keras-resv2 COMMAND, of those in `COMMANDS`.

Exit codes: 0 done; 1 `evaluate` measured another error than the card says; 2 bad input. Of several images `predict` and
`embed` answer those that can be read, name the others, and end with 2.
"""

import argparse
import sys

from keras_resv2 import __version__
from keras_resv2.choices import one_line
from keras_resv2.commands import analyzing, evaluating, finetuning, listing, picturing
from keras_resv2.commands.terminal import BAD_INPUT
from keras_resv2.convert import command as converting
from keras_resv2.exporting import command as exporting
from keras_resv2.hub import command as hub
from keras_resv2.startup import prepare_streams

INTERRUPTED = 130

# name: what it does, its arguments, its function
COMMANDS = {
    "list": ("List the pretrained networks.", listing.add_list_arguments, listing.run_list),
    "predict": (
        "Classify image files, of any size and format.",
        picturing.add_predict_arguments,
        picturing.run_predict,
    ),
    "evaluate": (
        "Measure a network's error again and compare it with its card.",
        evaluating.add_arguments,
        evaluating.run,
    ),
    "summary": (
        "Show the stages, size and card of a network.",
        listing.add_summary_arguments,
        listing.run_summary,
    ),
    "embed": (
        "Write the features of images, for search and small classifiers.",
        picturing.add_embed_arguments,
        picturing.run_embed,
    ),
    "finetune": (
        "Train a network further on images of your own, in class folders.",
        finetuning.add_arguments,
        finetuning.run,
    ),
    "convert": (
        "Make a weight folder from a file of torchvision, timm or keras.applications.",
        converting.add_arguments,
        converting.run,
    ),
    "export": ("Write a network as SavedModel, TFLite or ONNX.", exporting.add_arguments, exporting.run),
    "analyze": (
        "Repeat experiments of He et al. 2016 and Veit et al. 2016.",
        analyzing.add_arguments,
        analyzing.run,
    ),
    "push": ("Upload weights to the Hugging Face Hub.", hub.add_push_arguments, hub.run_push),
    "pull": ("Fetch weights from the Hugging Face Hub and show their card.", hub.add_pull_arguments, hub.run_pull),
}


def main(argv=None):
    """Runs one command; returns its exit code."""
    prepare_streams()
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"keras-resv2: error: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-resv2", description="Residual networks with weights whose error was measured."
    )
    parser.add_argument("--version", action="version", version=f"keras-resv2 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (what, add_arguments, function) in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.set_defaults(command=function)
        command.add_argument("--json", action="store_true", help="print JSON")
        add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
