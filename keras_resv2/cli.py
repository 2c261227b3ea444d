"""The command line: keras-resv2 list | predict | evaluate | summary | embed | convert | export | analyze | push | pull.

Exit codes: 0 done; 1 `evaluate` measured another error than the card says; 2 bad input.
"""

import argparse
import json
import math
import os
import sys

from rich.console import Console
from rich.table import Table

from keras_resv2 import __version__
from keras_resv2.choices import nearest
from keras_resv2.convert import command as convert_arguments
from keras_resv2.datasets import fingerprint, load_split
from keras_resv2.exporting import command as exporting
from keras_resv2.hub import command as hub
from keras_resv2.pretrained import decode_predictions, from_pretrained, list_pretrained, pretrained_card
from keras_resv2.pretrained.store import is_folder

DISAGREES, BAD_INPUT, INTERRUPTED = 1, 2, 130
QUICK_IMAGES = 2000
STUDIES = {
    "propagation": "signals and gradients unit by unit",
    "lesions": "error without units, and with units in another order",
    "paths": "gradients of single paths by their length",
}


def main(argv=None):
    """Runs one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"keras-resv2: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-resv2", description="Residual networks with weights whose error was measured."
    )
    parser.add_argument("--version", action="version", version=f"keras-resv2 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, function, help):
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(command=function)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    command = add("list", list_, "List the pretrained networks.")
    command.add_argument("--versions", action="store_true", help="every version, not the newest alone")
    command.add_argument("--architectures", action="store_true", help="list the networks that can be built instead")
    command.add_argument("--markdown", action="store_true", help="print the table of the README")

    command = add("predict", predict, "Say what is in pictures, of any size and format.")
    command.add_argument("name", metavar="NAME", help="pretrained network, as preact_resnet20-cifar10")
    command.add_argument("images", metavar="IMAGE", nargs="+", help="picture")
    command.add_argument("--top", type=int, default=5, help="labels per picture (default 5)")
    command.add_argument("--save", metavar="FILE", help="draw the pictures with labels and bars into FILE")

    command = add("evaluate", evaluate, "Measure a network's error again and compare it with its card.")
    command.add_argument("name", metavar="NAME", help="pretrained network")
    command.add_argument("--data_dir", required=True, help="tensorflow-datasets directory, or .npz file")
    command.add_argument("--quick", action="store_true", help=f"the first {QUICK_IMAGES} test images alone")
    command.add_argument("--dtype", default="float32", help="Keras dtype policy, as mixed_bfloat16 (default float32)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help="the inference form")
    form.add_argument("--rolled", action="store_true", help="units as loops")

    command = add("summary", summary, "Show the stages, size and card of a network.")
    command.add_argument("name", metavar="NAME", help="pretrained network or architecture")

    command = add("embed", embed, "Write the features of pictures, for search and small classifiers.")
    command.add_argument("name", metavar="NAME", help="pretrained network")
    command.add_argument("images", metavar="IMAGE", nargs="+", help="picture")
    command.add_argument("--out", metavar="FILE", required=True, help=".npz for paths and features (n, channels)")

    command = add("convert", convert, "Make a weight folder from a file of torchvision, timm or keras.applications.")
    convert_arguments.add_arguments(command)

    command = add("analyze", analyze, "Repeat experiments of He et al. 2016 and Veit et al. 2016.")
    command.add_argument("study", choices=list(STUDIES), help="; ".join(f"{k}: {text}" for k, text in STUDIES.items()))
    command.add_argument("names", metavar="NAME", nargs="+", help="pretrained network, or architecture: new weights")
    command.add_argument("--data_dir", required=True, help="tensorflow-datasets directory, or .npz file")
    command.add_argument("--out", required=True, metavar="DIR", help="where tables (CSV) and figures (PNG) go")
    command.add_argument("--images", type=int, help="the first so many test images alone")
    command.add_argument("--weights", metavar="FILE", help="of an architecture, as train.train writes them")
    command.add_argument("--activation", help="order of BN and ReLU of an architecture, where it is not its own")
    command.add_argument("--shortcut", nargs="+", help="of an architecture, as none or 'constant_scaling'; or several")
    command.add_argument("--draws", type=int, default=10, help="random lesions, or paths, of each size (default 10)")
    command.add_argument("--seed", type=int, default=0, help="of new weights and of what is drawn (default 0)")

    exporting.add_arguments(add("export", exporting.run, "Write a network as SavedModel, TFLite or ONNX."))
    hub.add_push_arguments(add("push", hub.run_push, "Upload weights to the Hugging Face Hub."))
    hub.add_pull_arguments(add("pull", hub.run_pull, "Fetch weights from the Hugging Face Hub and show their card."))
    return parser


def convert(arguments):
    """keras-resv2 convert FILE --out DIR"""
    _start_backend()
    from keras_resv2.convert.command import run

    return run(arguments)


def list_(arguments):
    """keras-resv2 list"""
    if arguments.architectures:
        return _list_architectures(arguments)
    cards = [pretrained_card(name) for name in list_pretrained(versions=arguments.versions)]
    if arguments.json:
        _print_json([_describe(card) for card in cards])
    elif arguments.markdown:
        print(markdown_table([card for card in cards if card.origin is None]), end="")
    else:
        columns = ("name", "version", "parameters", "test error", "paper's", "recipe", "file")
        table = _table(columns, right=columns[1:5] + columns[6:])
        for card in cards:
            row = (card.name, str(card.version), f"{card.parameters:,}", _percent(card.test_error))
            made = card.recipe or card.origin["layout"]
            table.add_row(*row, _percent(card.paper_error), made, _megabytes(card.size))
        _print_table(table)
    return 0


def _list_architectures(arguments):
    from keras_resv2.architectures import ARCHITECTURES

    if arguments.json:
        _print_json({name: vars(row) for name, row in ARCHITECTURES.items()})
        return 0
    table = _table(("name", "builder", "layers", "source"), right=("layers",))
    for name, row in ARCHITECTURES.items():
        table.add_row(name, row.builder, str(row.depth), row.source)
    _print_table(table)
    return 0


def markdown_table(cards):
    """The zoo table of the README.

    Args:
        cards: list of `keras_resv2.pretrained.Card`.

    Returns:
        Markdown text.
    """
    lines = [
        "| name | parameters | test error | the papers' | recipe | steps | trained on | file |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: |",
    ]
    for card in cards:
        trained = f"{card.hardware}, {card.wall_seconds / 60:.0f} min"
        lines.append(
            f"| `{card.full_name}` | {card.parameters:,} | {_percent(card.test_error)} | {_percent(card.paper_error)} "
            f"| `{card.recipe}` | {card.steps:,} | {trained} | {card.size / 1e6:.1f} MB |"
        )
    return "\n".join(lines) + "\n"


def predict(arguments):
    """keras-resv2 predict NAME IMAGE..."""
    from keras_resv2.images import check_ending, draw_predictions, read_image

    if arguments.top < 1:
        raise ValueError(f"--top {arguments.top} must be at least 1.")
    if arguments.save:
        check_ending(arguments.save)
    card = pretrained_card(arguments.name)
    images = [read_image(path, card.image_shape[:2]) for path in arguments.images]
    _start_backend()
    import numpy as np

    probabilities = from_pretrained(arguments.name).predict(np.stack(images), verbose=0)
    ranked = decode_predictions(probabilities, card, arguments.top)
    if arguments.save:
        draw_predictions(images, ranked, arguments.save, [os.path.basename(path) for path in arguments.images])
    if arguments.json:
        _print_json(
            [
                {"image": path, "predictions": [{"label": label, "probability": p} for label, p in row]}
                for path, row in zip(arguments.images, ranked, strict=True)
            ]
        )
        return 0
    for path, row in zip(arguments.images, ranked, strict=True):
        print(path)
        for label, p in row:
            print(f"  {100 * p:5.1f} %  {label:<12} {'#' * round(40 * p)}".rstrip())
    return 0


def evaluate(arguments):
    """keras-resv2 evaluate NAME --data_dir DIR"""
    card = pretrained_card(arguments.name)
    _start_backend()
    images, labels = load_split(card.dataset, "test", arguments.data_dir)
    if card.test_error is None:
        return _measure(arguments, card, images, labels)
    same_data = fingerprint(images, labels) == card.dataset_sha256["test"]
    expected = round(card.test_error * card.test_images / 100)
    if arguments.quick:
        images, labels, expected = images[:QUICK_IMAGES], labels[:QUICK_IMAGES], card.test_errors_first_2000
    from keras_resv2.evaluation import error_agrees, measure_error

    measured = measure_error(_inference_model(arguments), images, labels)
    agrees = error_agrees(measured * len(labels) / 100, expected, len(labels), same_data)
    result = {
        "name": card.full_name,
        "form": "folded" if arguments.folded else "rolled" if arguments.rolled else "plain",
        "dtype": arguments.dtype,
        "images": len(labels),
        "measured_error": measured,
        "card_error": 100 * expected / (QUICK_IMAGES if arguments.quick else card.test_images),
        "agrees": agrees,
        "same_images_as_card": same_data,
    }
    if arguments.json:
        _print_json(result)
    else:
        print(f"{card.full_name}: {measured:.2f} % of {len(labels):,} test images", end="; ")
        print(f"the card says {result['card_error']:.2f} %. They {'agree' if agrees else 'do not agree'}.")
        if not same_data:
            print("These test images are not, to the byte, those that the card was measured on.")
    return 0 if agrees else DISAGREES


def _inference_model(arguments):
    model = from_pretrained(arguments.name, rolled=arguments.rolled, dtype=arguments.dtype)
    if not arguments.folded:
        return model
    from keras_resv2.folding import fold

    return fold(model)


def _measure(arguments, card, images, labels):
    """`evaluate` of weights from elsewhere, whose card has no error to compare with."""
    from keras_resv2.evaluation import measure_error

    if arguments.quick:
        images, labels = images[:QUICK_IMAGES], labels[:QUICK_IMAGES]
    measured = measure_error(_inference_model(arguments), images, labels)
    if arguments.json:
        result = {"name": card.full_name, "dtype": arguments.dtype, "images": len(labels), "measured_error": measured}
        _print_json({**result, "card_error": None, "agrees": None})
    else:
        print(f"{card.full_name}: {measured:.2f} % of {len(labels):,} test images; the card has none to compare with.")
    return 0


def summary(arguments):
    """keras-resv2 summary NAME"""
    from keras_resv2.architectures import ARCHITECTURES

    pretrained = list_pretrained()
    known = arguments.name.partition("@")[0] in pretrained or is_folder(arguments.name)
    if arguments.name not in ARCHITECTURES and not known:
        offer = nearest(arguments.name, [*ARCHITECTURES, *pretrained])
        raise ValueError(f"there is no network {arguments.name!r}; nearest: {offer}.")
    card = None if arguments.name in ARCHITECTURES else pretrained_card(arguments.name)
    _start_backend()
    from keras_resv2.architectures import build
    from keras_resv2.complexity import count_multiply_adds
    from keras_resv2.resnet import features

    own = {**card.arguments, "classes": len(card.class_names)} if card else {}
    model = build(card.architecture if card else arguments.name, **own)  # its weights are not needed
    facts = {
        "name": model.name,
        "input": list(model.input_shape[1:]),
        "stages": {name: list(output.shape[1:]) for name, output in features(model).output.items()},
        "output": list(model.output_shape[1:]),
        "layers": len(model.layers),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "multiply_adds": count_multiply_adds(model),
    }
    if arguments.json:
        _print_json({**facts, "card": _describe(card) if card else None})
        return 0
    table = _table(("", ""), right=())
    table.show_header = False
    for key in ("name", "input"):
        table.add_row(key, _shape(facts[key]))
    for key, shape in facts["stages"].items():
        table.add_row(key, _shape(shape))
    table.add_row("output", _shape(facts["output"]))
    for key in ("layers", "parameters", "multiply_adds"):
        table.add_row(key.replace("_", "-"), f"{facts[key]:,}")
    for key, value in (_describe(card) if card else {}).items():
        if key == "test_error" and value is None:
            table.add_row("test error", "not measured")
        elif key not in ("architecture", "parameters") and not isinstance(value, (dict, list, type(None))):
            table.add_row(key.replace("_", " "), str(value))
    _print_table(table)
    return 0


def embed(arguments):
    """keras-resv2 embed NAME IMAGE... --out FILE"""
    from keras_resv2.images import read_image

    folder = os.path.dirname(os.path.abspath(arguments.out))
    if not arguments.out.endswith(".npz") or not os.path.isdir(folder):
        raise ValueError(f"--out {arguments.out} must be an .npz file in a folder that exists.")
    card = pretrained_card(arguments.name)
    images = [read_image(path, card.image_shape[:2]) for path in arguments.images]
    _start_backend()
    import numpy as np

    from keras_resv2 import embedding

    features = embedding.embed(arguments.name, np.stack(images))
    embedding.write_features(arguments.out, card.full_name, arguments.images, features)
    if arguments.json:
        _print_json({"name": card.full_name, "images": len(features), "features": features.shape[1]})
    else:
        print(f"{len(features)} x {features.shape[1]} features of {card.full_name}: {arguments.out}")
    return 0


def analyze(arguments):
    """keras-resv2 analyze STUDY NAME..."""
    _start_backend()
    from keras_resv2.analysis.command import run

    return run(arguments)


def _start_backend():
    """Imports Keras and its backend, without what TensorFlow's libraries write to the terminal meanwhile."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:  # somebody wants to see it
        import keras

        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import keras

        keras.ops.convert_to_numpy(keras.ops.zeros(()))
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _describe(card):
    return json.loads(card.to_json())


def _shape(value):
    return value if isinstance(value, str) else " x ".join(map(str, value))


def _percent(value):
    return "-" if value is None else f"{value:.2f} %"


def _megabytes(size):
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def _table(columns, right):
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _print_table(table):
    """As wide as the terminal; where there is none, as wide as the table."""
    Console(width=None if sys.stdout.isatty() else 1000).print(table)


def _print_json(content):
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    sys.exit(main())
