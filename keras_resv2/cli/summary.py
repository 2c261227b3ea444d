"""keras-resv2 summary NAME [--svg FILE]"""

import json
import math
import pathlib

from keras_resv2.architectures import is_architecture
from keras_resv2.cli.network_names import check_network
from keras_resv2.cli.terminal import new_table, print_json, print_table, start_backend
from keras_resv2.files import atomic_write, check_parent
from keras_resv2.pretrained import pretrained_card


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network or architecture")
    parser.add_argument("--svg", metavar="FILE", help="draw the network into FILE: units, shortcuts and sizes")


def run(arguments):
    """keras-resv2 summary NAME"""
    check_network(arguments.name)
    if arguments.svg:
        check_parent(pathlib.Path(arguments.svg))
    card = None if is_architecture(arguments.name) else pretrained_card(arguments.name)
    start_backend()
    from keras_resv2.builders import build
    from keras_resv2.models.diagram import network_svg
    from keras_resv2.models.flops import count_multiply_adds
    from keras_resv2.resnet import features

    own = {}
    if card:
        own = {**card.arguments, "classes": len(card.class_names), "input_shape": card.image_shape}
    model = build(card.architecture if card else arguments.name, **own)  # its weights are not needed
    facts = {
        "name": model.name,
        "input": list(model.input_shape[1:]),
        "stages": {name: list(output.shape[1:]) for name, output in dict(features(model).output).items()},
        "output": list(model.output_shape[1:]),
        "layers": len(model.layers),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "multiply_adds": count_multiply_adds(model),
    }
    if arguments.svg:
        with atomic_write(pathlib.Path(arguments.svg)) as partial:
            partial.write_text(network_svg(model), encoding="utf-8")
    if arguments.json:
        print_json({**facts, "card": json.loads(card.to_json()) if card else None})
        return 0
    table = new_table(("", ""), right=())
    table.show_header = False
    for key in ("name", "input"):
        table.add_row(key, _shape(facts[key]))
    for key, shape in facts["stages"].items():
        table.add_row(key, _shape(shape))
    table.add_row("output", _shape(facts["output"]))
    for key in ("layers", "parameters", "multiply_adds"):
        table.add_row(key.replace("_", "-"), f"{facts[key]:,}")
    for key, value in (json.loads(card.to_json()) if card else {}).items():
        if key == "test_error" and value is None:
            table.add_row("test error", "not measured")
        elif key not in ("architecture", "parameters") and not isinstance(value, (dict, list, type(None))):
            table.add_row(key.replace("_", " "), str(value))
    print_table(table)
    return 0


def _shape(value):
    return value if isinstance(value, str) else " x ".join(map(str, value))
