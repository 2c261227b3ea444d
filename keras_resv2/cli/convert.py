"""keras-resv2 convert FILE --out DIR"""

import contextlib
import dataclasses
import itertools
import json
import pathlib

from keras_resv2.cli.terminal import output_folder, print_json, start_backend
from keras_resv2.data import DATASETS

SAID = ("stride_on", "activated_shortcuts", "stem", "projection", "zero_channels", "epsilon", "padding")


def add_arguments(parser):
    """Adds the command's arguments to an `argparse.ArgumentParser`."""
    parser.add_argument("file", metavar="FILE", help="path or URL of PyTorch, Keras or .safetensors weights")
    parser.add_argument("--architecture", metavar="NAME", help="such as resnet50 or resnet14; detected by default")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="parent folder of NAME/VERSION/ with the weights and card"
    )
    parser.add_argument("--name", help="name of the weights; <architecture>-<dataset> by default")
    parser.add_argument("--dataset", default="unknown", help="training dataset, such as cifar10, cifar100 or imagenet")
    parser.add_argument("--classes", metavar="FILE", help="text file with the class names in order, one per line")
    parser.add_argument("--license", default="unknown", help="license of the weights")
    parser.add_argument(
        "--preprocessing", help="cifar10, cifar100, torch, caffe, tf, or 'R,G,B/R,G,B': mean/std on the 0-255 scale"
    )
    parser.add_argument(
        "--prefix", help="prefix of the names of the network's tensors, if the file contains several networks"
    )
    said = parser.add_argument_group("details that files do not contain (docs/convert.md)")
    said.add_argument("--stride_on", choices=("1x1", "3x3"), help="convolution of bottlenecks that has the stride")
    said.add_argument("--activated_shortcuts", help="first_and_projections, projections or none")
    said.add_argument("--stem", help="such as cifar_pooled or imagenet_unpooled")
    said.add_argument("--projection", help="A_average: average pooling instead of subsampling in option A")
    said.add_argument("--zero_channels", help="position of zero channels in option A: both_sides or after")
    said.add_argument("--padding", choices=("torch", "tensorflow"), help="padding of strided convolutions")
    said.add_argument("--epsilon", type=float, help="epsilon of batch normalization")


def run(arguments):
    """Converts a file and prints what was written.

    Returns:
        0.

    Raises:
        ValueError, OSError, ImportError: if the file cannot be converted; nothing is written then.
    """
    structure = {
        "preprocessing": _preprocessing(arguments.preprocessing),
        **{name: getattr(arguments, name) for name in SAID},
    }
    structure = {key: value for key, value in structure.items() if value is not None}
    names = _class_names(arguments.classes)
    root = output_folder(arguments.out)
    start_backend()
    from keras_resv2.convert.detection import detect
    from keras_resv2.convert.weight_folder import check_card, make_card, write_folder

    found = detect(arguments.file, arguments.architecture, prefix=arguments.prefix, **structure)
    pixels = _pixels_of(arguments.dataset)
    if pixels is not None:
        found = found.of_dataset(arguments.dataset, pixels)
    name = arguments.name or f"{found.architecture}-{arguments.dataset}"
    if pathlib.PurePath(name).name != name or "@" in name:
        raise ValueError(f"--name {name!r} must be the name of a folder, without @.")
    card = make_card(found, name, 1, arguments.dataset, names, arguments.license)
    check_card(card)
    with new_version(root / name) as version:
        folder = write_folder(found.weights, dataclasses.replace(card, version=version), root)
    if getattr(arguments, "json", False):
        print_json({"folder": str(folder), **json.loads((folder / "card.json").read_text(encoding="utf-8"))})
        return 0
    given = ", ".join(f"{key}={value}" for key, value in found.arguments.items())
    print(f"{folder}: {found.architecture}{f' ({given})' if given else ''}, {found.classes} classes, {found.layout}.")
    for phrase in found.assumed:
        print(f"  It was assumed (the file does not say) {phrase}.")
    print("  Its error was not measured.")
    return 0


@contextlib.contextmanager
def new_version(folder):
    """Creates the folder of the next version, which only one of several processes can; removed if it remains empty."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    for version in itertools.count(max(versions, default=0) + 1):
        with contextlib.suppress(FileExistsError):
            (folder / str(version)).mkdir()
            break
    try:
        yield version
    except BaseException:
        for empty in (folder / str(version), folder):
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise


def _class_names(path):
    if path is None:
        return None
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")  # Windows may write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"--classes {path} is not UTF-8: {error}.") from None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise ValueError(f"--classes {path} is empty.")
    return names


def _pixels_of(dataset):
    """Returns the pixel statistics of a dataset if they are not the default, in a form for cards; else None."""
    row = DATASETS.get(dataset)
    if row is None or row.streamed or row.pixels in (None, DATASETS["cifar10"].pixels):
        return None
    return [list(values) for values in row.pixels]


def _preprocessing(text):
    """Parses a name, or mean and standard deviation as lists, in a form for cards."""
    if text is None or "/" not in text:
        return text
    try:
        return [[float(value) for value in part.split(",")] for part in text.split("/")]
    except ValueError:
        raise ValueError(
            f"--preprocessing {text} must be a name, or six numbers such as 125,123,114/63,62,67."
        ) from None
