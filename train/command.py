"""Runs the commands of this package that use absl flags."""

import sys

from absl import app

HELP = ("help", "helpshort", "helpfull", "helpxml", "?")


def run(main):
    """Runs `main` with the remaining arguments of the command line, and exits.

    Like `absl.app.run`, but with exit code 0 for ``--help``, like other programs.

    Args:
        main: function of the list of arguments that are not flags, starting with the program's name.
    """
    try:
        app.run(main)
    except SystemExit:
        if any(word.startswith("-") and word.lstrip("-") in HELP for word in sys.argv[1:]):
            sys.exit(0)
        raise
