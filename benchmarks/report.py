"""Formats the measurement as a Markdown table and as JSON."""

import dataclasses
import json

from benchmarks.summary import QUANTITIES

COLUMNS = ("network", "measure", "contender", "precision", "ratio to reference", "value", "spread")
RIGHT = COLUMNS[4:]
BUSY = 0.25  # fraction of the cores used by other programs before the start


def as_markdown(report):
    """Formats the report as Markdown.

    Args:
        report: dictionary returned by `benchmarks.__main__.run`.

    Returns:
        Markdown text: machine and settings, the table, skipped and failed contenders.
    """
    lines = [f"# Benchmarks: {', '.join(report['arguments']['networks'])}", "", *_head(report), ""]
    lines += [_markdown_row(COLUMNS), _markdown_row("---:" if column in RIGHT else "---" for column in COLUMNS)]
    lines += [_markdown_row(_cells(row)) for row in report["rows"]]
    for title, entries in (("Floor", _floors(report)), ("Skipped", _skipped(report)), ("Failed", _failed(report))):
        if entries:
            lines += ["", f"{title}:", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines) + "\n"


def as_json_text(report):
    """Formats the report as JSON, including every repeat."""
    return json.dumps(report, indent=2, default=dataclasses.asdict) + "\n"


def with_unit(value, unit):
    """Formats a value for the table.

    Example:

    >>> with_unit(1234.5, "images/s"), with_unit(0.01234, "s"), with_unit(1.5e6, "bytes"), with_unit(2.5e9, "bytes")
    ('1,234 images/s', '0.0123 s', '1.50 MB', '2.50 GB')
    """
    if unit == "bytes":
        return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.2f} MB"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _head(report):
    machine, arguments = report["machine"], report["arguments"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    sentences = [
        f"{machine['hardware']}, {machine['system']}; commit {machine['commit']}; {versions}.",
        f"`{report['command']}`",
        f"Batches of {arguments['batch_size']} images; {arguments['rounds']} rounds of about "
        f"{arguments['round_seconds']:g} s; import, build, load and first calls in {arguments['opens']} fresh "
        f"process{'es' if arguments['opens'] > 1 else ''} of each contender; all interleaved. Values are medians, "
        "spreads "
        "the quartiles. Ratios are medians over rounds; above 1 is better than the reference, in every row.",
        *(f"Reference of {network}: {name}." for network, name in report["references"].items()),
    ]
    load = machine["load_average"]
    if load is not None and load > BUSY * machine["cores"]:
        sentences.append(
            f"Other programs were running: load average {load:.1f} at the start, contenders on {machine['cores']} core"
            f"{'s' if machine['cores'] > 1 else ''}. Libraries whose threads wait for each other, such as PyTorch, "
            "slow "
            "down much more than others; `--cores 1` avoids this."
        )
    return [line for sentence in sentences for line in (sentence, "")][:-1]


def _cells(row):
    unit = QUANTITIES[row["measure"]].unit
    value, ratio = row["value"], row["ratio"]
    shown = "-" if ratio is None else f"{ratio['median']:.2f}"
    if ratio and ratio["low"] != ratio["high"]:
        shown += f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
    span = "" if value["low"] == value["high"] else _span(with_unit(value["low"], unit), with_unit(value["high"], unit))
    measure = QUANTITIES[row["measure"]].title
    return row["network"], measure, row["contender"], row["precision"], shown, with_unit(value["median"], unit), span


def _span(low, high):
    """Formats "5 s" and "6 s" as "5 to 6 s"; keeps both units if they differ."""
    number, unit = low.split(" ")
    return f"{number if high.endswith(f' {unit}') else low} to {high}"


def _floors(report):
    return [
        f"{floor['network']}, {QUANTITIES[floor['measure']].title}, {floor['precision']}: "
        f"{1000 * floor['seconds']:.3g} ms per batch. {floor['operations'] / 1e9:,.3g} GFLOP at the measured "
        f"{floor['operations_per_second'] / 1e12:.3g} TFLOP/s, {floor['bytes'] / 1e9:.3g} GB at the measured "
        f"{floor['bytes_per_second'] / 1e9:,.0f} GB/s"
        for floor in report["floors"]
    ]


def _skipped(report):
    return [f"{entry['contender']}: {entry['reason']}" for entry in report["skipped"]]


def _failed(report):
    return [f"{result.contender}: {result.error}" for result in report["results"] if result.error]


def _markdown_row(texts):
    return f"| {' | '.join(texts)} |"
