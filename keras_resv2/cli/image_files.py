"""Reads image files given on the command line, and reports those that cannot be read."""

from keras_resv2.argument_checks import one_line
from keras_resv2.cli.terminal import BAD_INPUT
from keras_resv2.data import read_image
from keras_resv2.startup import print_stderr


def read_images(paths, card):
    """Returns the readable images, and the problems of the others, both by position in `paths`."""
    found, problems, options = {}, {}, card.image_options
    for place, path in enumerate(paths):
        try:
            found[place] = read_image(path, **options)
        except (ValueError, OSError) as error:
            problems[place] = one_line(error)
    return found, problems


def report_problems(problems):
    """Prints the files that could not be read; returns the exit code."""
    for problem in problems.values():
        print_stderr(f"keras-resv2: error: {problem}")
    return BAD_INPUT if problems else 0
