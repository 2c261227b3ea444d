"""keras-resv2 list"""

import csv
import io
import json

from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.cli.terminal import megabytes, new_table, percent, print_json, print_table, start_backend
from keras_resv2.pretrained import list_pretrained, pretrained_card

RESULTS_COLUMNS = (
    "name",
    "version",
    "dataset",
    "test_error",
    "error_low",
    "error_high",
    "parameters",
    "multiply_adds",
    "steps",
    "hours",
    "recipe",
    "bytes",
)


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("--versions", action="store_true", help="list every version instead of only the newest")
    parser.add_argument("--architectures", action="store_true", help="list the networks that can be built instead")
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.add_argument("--csv", action="store_true", help="print every version as CSV, as in weights/results.csv")


def run(arguments):
    """keras-resv2 list"""
    excluded = ("markdown", "csv", "versions") if arguments.architectures else ("json", "markdown", "csv")
    given = [f"--{name}" for name in ("architectures", *excluded) if getattr(arguments, name)]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} cannot be combined.")
    if arguments.architectures:
        return _list_architectures(arguments)
    versions = arguments.versions or arguments.csv
    cards = [pretrained_card(name) for name in list_pretrained(versions=versions)]
    if arguments.json:
        print_json([_describe(card) for card in cards])
    elif arguments.csv:
        start_backend()
        print(csv_table([card for card in cards if card.origin is None]), end="")
    elif arguments.markdown:
        print(markdown_table([card for card in cards if card.origin is None]), end="")
    else:
        columns = ("name", "version", "parameters", "test error", "paper", "recipe or source", "file")
        table = new_table(columns, right=columns[1:5] + columns[6:])
        for card in cards:
            error = percent(card.test_error)
            origin = card.origin or {}
            if card.test_error is None and "reported_error" in origin:
                error = f"{percent(origin['reported_error'])} (theirs)"
            row = (card.name, str(card.version), f"{card.parameters:,}", error)
            made = card.recipe or origin.get("hub") or origin.get("layout", "-")
            table.add_row(*row, percent(card.paper_error), made, megabytes(card.size))
        print_table(table)
    return 0


def _list_architectures(arguments):
    if arguments.json:
        print_json({name: vars(row) for name, row in ARCHITECTURES.items()})
        return 0
    table = new_table(("name", "builder", "depth=", "width=", "source"), right=("depth=", "width="))
    for name, row in ARCHITECTURES.items():
        table.add_row(name, row.builder, str(row.depth), str(row.width), row.source)
    print_table(table)
    return 0


def markdown_table(cards):
    """Formats the zoo table of the README.

    Args:
        cards: list of `keras_resv2.pretrained.Card`.

    Returns:
        Markdown text.
    """
    lines = [
        "| name | parameters | test error | paper | recipe | steps | hardware, training time | file |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: |",
    ]
    for card in cards:
        trained = f"{card.hardware}, {card.wall_seconds / 60:.0f} min"
        lines.append(
            f"| `{card.full_name}` | {card.parameters:,} | {percent(card.test_error)} | {percent(card.paper_error)} "
            f"| `{card.recipe}` | {card.steps:,} | {trained} | {card.size / 1e6:.1f} MB |"
        )
    return "\n".join(lines) + "\n"


def csv_table(cards):
    """Formats the published weights as CSV.

    Args:
        cards: list of `keras_resv2.pretrained.Card`.

    Returns:
        CSV text with a row for each card: name, version, dataset, test_error and the bounds of its 95 % confidence
        interval over test images (percent), parameters, multiply_adds (for one image), steps, hours, recipe, bytes.
    """
    from keras_resv2.builders import build
    from keras_resv2.metrics import interval
    from keras_resv2.models.flops import count_multiply_adds

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RESULTS_COLUMNS)
    for card in cards:
        model = build(
            card.architecture,
            **card.arguments,
            classes=len(card.class_names),
            input_shape=card.image_shape,
        )
        low, high = interval(round(card.test_error * card.test_images / 100), card.test_images)
        writer.writerow([
            card.name, card.version, card.dataset, f"{card.test_error:.2f}", f"{low:.2f}", f"{high:.2f}",
            card.parameters, count_multiply_adds(model), card.steps, f"{card.wall_seconds / 3600:.2f}",
            card.recipe, card.size,
        ])  # fmt: skip
    return text.getvalue()


def _describe(card):
    return json.loads(card.to_json())
