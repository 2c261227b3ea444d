"""How a command of this package that has absl's flags runs."""

import sys

from absl import app

HELP = ("help", "helpshort", "helpfull", "helpxml", "?")


def run(main):
    """Runs `main` with the command line's other words, and ends the program.

    As `absl.app.run`, with exit code 0 for ``--help``, as other programs have it.

    Args:
        main: function of the list of words that are not flags, the program's name first.
    """
    try:
        app.run(main)
    except SystemExit:
        if any(word.startswith("-") and word.lstrip("-") in HELP for word in sys.argv[1:]):
            sys.exit(0)
        raise
