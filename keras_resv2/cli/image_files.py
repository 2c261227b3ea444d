"""Image files named on the command line: those that can be read, and what is wrong with the others."""

import sys

from keras_resv2.argument_checks import one_line
from keras_resv2.cli.terminal import BAD_INPUT
from keras_resv2.data import read_image


def read_images(paths, card):
    """The images that can be read, and what is wrong with the others, both by their places in `paths`."""
    found, problems = {}, {}
    for place, path in enumerate(paths):
        try:
            found[place] = read_image(path, card.image_shape[:2])
        except (ValueError, OSError) as error:
            problems[place] = one_line(error)
    return found, problems


def report_problems(problems):
    """Names the files that could not be read; the exit code says that there are some."""
    for problem in problems.values():
        print(f"keras-resv2: error: {problem}", file=sys.stderr)
    return BAD_INPUT if problems else 0
