"""The command line, ``keras-resv2 COMMAND``: `main` runs it; each command has its own file."""

from keras_resv2.cli.main import COMMANDS, main
from keras_resv2.cli.terminal import BAD_INPUT

__all__ = ["BAD_INPUT", "COMMANDS", "main"]
