"""The command line: keras-resv2 COMMAND, see `COMMANDS`.

Exit codes: 0 success; 1 `evaluate` measured an error that disagrees with the card; 2 bad input; 70 a bug, with a
traceback; 130 Ctrl-C; 141 the reader of the output is gone. If only some of several images can be read, `predict` and
`embed` process these, report the others, and exit with 2.

A command is a module with `add_arguments(parser)` and `run(arguments)`, which returns the exit code. Keras is imported
in `run`, after the arguments have been checked.
"""

import argparse
import contextlib
import os
import sys
import traceback
import warnings

from keras_resv2 import __version__
from keras_resv2.argument_checks import one_line
from keras_resv2.cli import analyze, convert, embed, evaluate, export, finetune, list, predict, pull, push, summary
from keras_resv2.cli.terminal import BAD_INPUT
from keras_resv2.startup import around_import, prepare_streams, print_stderr, stop_output, without_native_messages

INTERRUPTED, BUG = 130, 70  # as in sysexits.h: Python's own 1 is that of a disagreement

COMMANDS = {
    "list": ("List the pretrained networks.", list),
    "predict": ("Classify image files of any size and format.", predict),
    "evaluate": ("Measure a network's error and compare it with its card.", evaluate),
    "summary": ("Show the stages, size and card of a network.", summary),
    "embed": ("Write features of images, for search and small classifiers.", embed),
    "finetune": ("Fine-tune a network on your own images in class folders.", finetune),
    "convert": ("Convert a file of another library to a weight folder.", convert),
    "export": ("Write a network as SavedModel, TFLite or ONNX.", export),
    "analyze": ("Repeat experiments of He et al. 2016 and Veit et al. 2016.", analyze),
    "push": ("Upload weights to the Hugging Face Hub.", push),
    "pull": ("Download weights from the Hugging Face Hub and show their card.", pull),
}


def main(argv=None):
    """Runs one command; returns its exit code.

    Args:
        argv: list of arguments; None for those of the process, whose unexpected exceptions are printed, not raised.
    """
    prepare_streams()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on processors without AVX-512, but faster
    around_import("tensorflow", without_native_messages)
    arguments = _parser().parse_args(argv)
    try:
        with _plain_warnings():
            return arguments.command(arguments)
    except BrokenPipeError:
        return stop_output()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print_stderr(f"keras-resv2: error: {one_line(error)}")
        return BAD_INPUT
    except MemoryError as error:
        print_stderr(f"keras-resv2: error: not enough memory. {one_line(error)}")
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        if argv is not None:
            raise
        print_stderr(traceback.format_exc().rstrip())
        return BUG


@contextlib.contextmanager
def _plain_warnings():
    """Prints warnings for users as one line, without the line of code that caused them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message, category, *where):
            if category is UserWarning:
                print_stderr(f"keras-resv2: warning: {one_line(message)}")
            else:
                show(message, category, *where)

        warnings.showwarning = show_plainly
        yield


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-resv2", description="Residual networks with pretrained weights and their measured test errors."
    )
    parser.add_argument("--version", action="version", version=f"keras-resv2 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (description, module) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        command.set_defaults(command=module.run)
        command.add_argument("--json", action="store_true", help="print JSON")
        module.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
