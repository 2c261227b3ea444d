"""Runs the commands of this package that use absl flags."""

import signal
import sys

from absl import app

from keras_resv2.startup import stop_output
from train import INTERRUPTED

HELP = ("help", "helpshort", "helpfull", "helpxml", "?")


def run(main):
    """Runs `main` with the remaining arguments of the command line, and exits.

    Like `absl.app.run`, but with exit code 0 for ``--help``, like other programs, and 130 without a traceback after
    Ctrl-C, which is a KeyboardInterrupt again from here on, so that commands can save their work. If the reader of the
    output is gone, as in ``--help | head``, it exits with 141, without a message.

    Args:
        main: function of the list of arguments that are not flags, starting with the program's name.
    """
    if callable(signal.getsignal(signal.SIGINT)):  # not ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app.run(main)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(stop_output())
    except SystemExit:
        if any(word.startswith("-") and word.lstrip("-") in HELP for word in sys.argv[1:]):
            sys.exit(0)
        raise
