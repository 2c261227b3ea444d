"""The command line, ``keras-resv2 COMMAND``: `main` runs it; a file for each command."""

from keras_resv2.cli.main import main

__all__ = ["main"]
