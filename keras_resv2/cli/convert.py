"""keras-resv2 convert FILE --out DIR: a weight folder from a file of another library."""

import dataclasses
import json
import pathlib

from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.data import DATASETS

SAID = ("stride_on", "activated_shortcuts", "stem", "projection", "zero_channels", "epsilon")


def add_arguments(parser):
    """Adds the command's arguments to an `argparse.ArgumentParser`."""
    parser.add_argument("file", metavar="FILE", help="weights of PyTorch or Keras, or .safetensors, of any ending")
    parser.add_argument("--architecture", metavar="NAME", help="as resnet50 or resnet14; by default the one that fits")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where NAME/VERSION/ with the weights and card goes"
    )
    parser.add_argument("--name", help="of the weights; by default <architecture>-<dataset>")
    parser.add_argument(
        "--dataset", default="unknown", help="that they were trained on, as cifar10, cifar100 or imagenet"
    )
    parser.add_argument("--classes", metavar="FILE", help="text file of the class names, one a line, in order")
    parser.add_argument("--license", default="unknown", help="of the weights")
    parser.add_argument(
        "--preprocessing", help="cifar10, cifar100, torch, caffe, tf, or 'R,G,B/R,G,B': mean/std from 0 to 255"
    )
    parser.add_argument("--prefix", help="what the names of the network's tensors begin with, where there are several")
    said = parser.add_argument_group("what a file does not say (docs/convert.md)")
    said.add_argument("--stride_on", choices=("1x1", "3x3"), help="convolution of bottlenecks that takes the stride")
    said.add_argument("--activated_shortcuts", help="first_and_projections, projections or none")
    said.add_argument("--stem", help="as cifar_pooled, imagenet_unpooled")
    said.add_argument("--projection", help="A_average: averages in place of every second pixel in option A")
    said.add_argument("--zero_channels", help="of option A: both_sides or after")
    said.add_argument("--epsilon", type=float, help="of batch normalisation")


def run(arguments):
    """Converts, and says what was made.

    Returns:
        0.

    Raises:
        ValueError, OSError, ImportError: nothing was written.
    """
    structure = {
        "preprocessing": _preprocessing(arguments.preprocessing) or _pixels_of(arguments.dataset),
        **{name: getattr(arguments, name) for name in SAID},
    }
    structure = {key: value for key, value in structure.items() if value is not None}
    names = _class_names(arguments.classes)
    root = _root(arguments.out)
    start_backend()
    from keras_resv2.convert.detection import detect
    from keras_resv2.convert.weight_folder import make_card, write_folder

    found = detect(arguments.file, arguments.architecture, prefix=arguments.prefix, **structure)
    if "preprocessing" in structure and not arguments.preprocessing:
        phrase = f"that pixels are normalised with the statistics of {arguments.dataset} (else: --preprocessing)"
        found = dataclasses.replace(found, assumed=(*found.assumed, phrase))
    name = arguments.name or f"{found.architecture}-{arguments.dataset}"
    if pathlib.PurePath(name).name != name or "@" in name:
        raise ValueError(f"--name {name!r} must be the name of a folder, without @.")
    card = make_card(found, name, _next_version(root / name), arguments.dataset, names, arguments.license)
    folder = write_folder(found.weights, card, root)
    if getattr(arguments, "json", False):
        print_json({"folder": str(folder), **json.loads((folder / "card.json").read_text())})
        return 0
    given = ", ".join(f"{key}={value}" for key, value in found.arguments.items())
    print(f"{folder}: {found.architecture}{f' ({given})' if given else ''}, {found.classes} classes, {found.layout}.")
    for phrase in found.assumed:
        print(f"  The file does not say, and it was assumed, {phrase}.")
    print("  Its error was not measured.")
    return 0


def _root(out):
    root = pathlib.Path(out)
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"--out {out} is a file.")
    return root


def _next_version(folder):
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(versions, default=0) + 1


def _class_names(path):
    if path is None:
        return None
    names = [line.strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"--classes {path} is empty.")
    return names


def _pixels_of(dataset):
    """Statistics of a dataset whose networks are not built with them anyway, as a card can hold them; else None."""
    row = DATASETS.get(dataset)
    if row is None or row.streamed or row.pixels in (None, DATASETS["cifar10"].pixels):
        return None
    return [list(values) for values in row.pixels]


def _preprocessing(text):
    """A name, or mean and standard deviation as lists, which a card can hold."""
    if text is None or "/" not in text:
        return text
    try:
        return [[float(value) for value in part.split(",")] for part in text.split("/")]
    except ValueError:
        raise ValueError(f"--preprocessing {text} must be a name, or six numbers as 125,123,114/63,62,67.") from None
