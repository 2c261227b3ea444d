"""The command line, ``keras-resv2 COMMAND``: `main` runs it; a file for each command."""

from keras_resv2.cli.main import COMMANDS, main
from keras_resv2.cli.terminal import BAD_INPUT

__all__ = ["BAD_INPUT", "COMMANDS", "main"]
