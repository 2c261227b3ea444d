"""Output of the commands, and the quiet start of Keras."""

import json
import pathlib
import sys

from rich.console import Console
from rich.table import Table

from keras_resv2.startup import without_native_messages

BAD_INPUT = 2  # exit code


def start_backend():
    """Imports Keras and its backend without messages of TensorFlow's libraries.

    Networks of the commands are channels-last, like the images that they read, whatever Keras' configuration file says.
    """
    with without_native_messages():
        import keras

        keras.config.set_image_data_format("channels_last")
        keras.ops.convert_to_numpy(keras.ops.zeros(()))


def check_seed(seed):
    """Raises ValueError unless --seed is a seed of NumPy's global generator, which Keras sets."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed {seed} must be from 0 to 4294967295.")


def percent(value):
    """Formats a percentage that may be missing."""
    return "-" if value is None else f"{value:.2f} %"


def megabytes(size):
    """Formats a size that may be unknown."""
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def new_table(columns, right):
    """Creates a table without lines; the columns named in `right` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def print_table(table):
    """Prints a table as wide as the terminal; without a terminal, as wide as the table. Cells are plain text."""
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, emoji=False).print(table)


def output_folder(out):
    """Returns an --out as a path; raises NotADirectoryError if it is a file."""
    folder = pathlib.Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {out} is a file.")
    return folder


def print_json(content):
    """Prints JSON."""
    print(json.dumps(content, indent=2))
