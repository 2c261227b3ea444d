"""keras-resv2 export NAME --format F --out PATH"""

import numpy as np

from keras_resv2.argument_checks import some, warn_caller
from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.data.arrays import sample_positions
from keras_resv2.data.sources import decode_readable
from keras_resv2.data.splits import TRAIN, evenly_spaced
from keras_resv2.exporting import PRECISIONS
from keras_resv2.exporting.formats import FORMATS
from keras_resv2.labels import class_names, load_images, open_images
from keras_resv2.pretrained import from_pretrained, pretrained_card, weight_path
from keras_resv2.startup import print_stderr, without_native_messages

REPRESENTATIVE_IMAGES = 500


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, such as preact_resnet20-cifar10")
    parser.add_argument("--format", choices=FORMATS, required=True, help="format to write")
    parser.add_argument("--out", required=True, metavar="PATH", help="file to write, or folder of a SavedModel")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="precision of the weights (default float32)"
    )
    parser.add_argument(
        "--data_dir",
        help="int8: tensorflow-datasets directory, .npz file or folder of class folders to calibrate with",
    )
    parser.add_argument(
        "--images",
        type=int,
        help=f"int8: number of training images for calibration (default {REPRESENTATIVE_IMAGES})",
    )
    parser.add_argument("--unfolded", action="store_true", help="keep batch normalization as separate operations")
    parser.add_argument("--unit_switches", action="store_true", help="ONNX: add an input that deletes residual units")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments):
    """Writes the network and prints what was written; returns the exit code.

    Args:
        arguments: those defined by `add_arguments`, and `json`.

    Raises:
        ValueError, OSError, ImportError: as in `keras_resv2.export`, or if the images cannot be read.
    """
    if arguments.precision == "int8" and not arguments.data_dir:
        raise ValueError("--precision int8 calibrates activation ranges on training images: pass --data_dir.")
    for option in ("data_dir", "images"):
        if arguments.precision != "int8" and getattr(arguments, option) is not None:
            raise ValueError(f"--{option} has no effect without --precision int8.")
    count = REPRESENTATIVE_IMAGES if arguments.images is None else arguments.images
    if count < 1:
        raise ValueError(f"--images {count} must be at least 1.")
    card = pretrained_card(arguments.name)
    start_backend()
    with without_native_messages():
        from keras_resv2.exporting.exporter import check_export

        check_export(
            arguments.out,
            arguments.format,
            arguments.precision,
            arguments.overwrite,
            arguments.unit_switches,
            card.class_names,
        )
    names = _names(card)
    weight_path(card)  # downloads and converts, if necessary, and says so
    representative = None
    if arguments.precision == "int8":  # read here, because the next block hides warnings about images
        representative = _training_images(card, arguments.data_dir, count)
    with without_native_messages():
        exported = _export(names, representative, arguments)
    if arguments.json:
        print_json({"name": card.full_name, **vars(exported), "path": str(exported.path)})
    else:
        print(f"{exported.path}: {card.full_name} as {exported.format}, {exported.precision}, {_size(exported.size)}")
        print(f"  pixels: {exported.input}; {', '.join(exported.outputs)}: float32")
        print(f"  {_difference(exported.difference)}")
    return 0


def _export(names, representative, arguments):
    from keras_resv2.exporting.exporter import export

    return export(
        from_pretrained(arguments.name),
        arguments.out,
        arguments.format,
        precision=arguments.precision,
        representative=representative,
        folded=not arguments.unfolded,
        class_names=names,
        unit_switches=arguments.unit_switches,
        overwrite=arguments.overwrite,
    )


def _training_images(card, data_dir, count):
    """Returns training images for calibration; of images on disk, only the selected ones are decoded."""
    source = open_images(card, TRAIN, data_dir)
    if source is None:
        images, labels = load_images(card, TRAIN, data_dir)
        return images[sample_positions(labels, count)]
    positions = evenly_spaced(len(source), count)  # folders are sorted by class
    images, _, problems = decode_readable(source, positions, **card.image_options)
    if not images:
        raise ValueError(f"{data_dir} contains no readable training images, for example: {some(problems)}")
    for problem in problems:
        warn_caller(f"{problem} It is left out.")
    return np.stack(images)


def _names(card):
    try:
        return class_names(card)
    except OSError as error:
        print_stderr(f"class names are replaced by indices: {error}")
        return card.class_names


def _difference(value):
    if value is None:
        return "not compared with Keras: onnxruntime is not installed (pip install onnxruntime)"
    return f"largest difference from the Keras model: {value:.2g}"


def _size(size):
    return f"{size / 1e6:.2f} MB"
