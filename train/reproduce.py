"""Sets our errors beside those of a paper's table.

    python -m train.reproduce table1 --plot table1.png
    python -m train.reproduce resnet --runs runs --format markdown

Ours come from the cards of published weights, all versions, and from finished runs. A reproduction is
a run by the `paper` recipe with the steps and the batch size of the cell; only the precision may
differ. What other recipes reach is shown apart. Cells that no run reproduces come with the command
that does. Exit code 2: bad input.
"""

import argparse
import dataclasses
import itertools
import json
import math
import pathlib
import re
import shlex
import statistics
import sys

from train.measured import as_json, collect, recipe_values, without_dtype
from train.paper import FAILS_ABOVE, TABLES, network
from train.recipes import RECIPES

BAD_INPUT = 2
RECIPE = "paper"
COLUMNS = ("cell", "paper", "reproduced", "other recipe", "errors by seed", "runs", "recipe", "steps")
RIGHT = ("paper", "reproduced", "other recipe", "runs", "steps")


def compare(table, found, out="runs"):
    """The cells of a table, each with the paper's figure and ours.

    Args:
        table: a key of `train.paper.TABLES`.
        found: list of `train.measured.Run`.
        out: folder that the commands for missing cells name.

    Returns:
        Dictionary of what JSON has: table, title, cells, and what is said of them: order, fails.
    """
    columns = {cell.column for cell in TABLES[table]}
    cells = []
    for cell in TABLES[table]:
        name = cell.row if len(columns) == 1 else f"{cell.row}, {cell.column}"
        cells.append({"name": name, **_compare_cell(cell, found, pathlib.Path(out))})
    return {
        "table": table,
        "title": ", ".join([TABLES[table][0].source, *(columns if len(columns) == 1 else [])]),
        "cells": cells,
        "order": _orders(cells),
        "fails": [_fails(cell) for cell in cells if cell["paper"] is None],
    }


def _compare_cell(cell, found, out):
    made = network(cell.model, cell.arguments)
    wanted = recipe_values(dataclasses.replace(RECIPES[RECIPE], steps=cell.steps, batch_size=cell.batch_size))
    ways = {}
    for run in found:
        if run.network == made and run.values.get("batch_size") not in _other_batch_sizes(cell):
            ways.setdefault(run.way, []).append(run)
    reproduced = ways.pop((RECIPE, as_json(without_dtype(wanted))), None)
    return {
        "row": cell.row,
        "column": cell.column,
        "model": cell.model,
        "arguments": cell.arguments,
        "paper": cell.error,
        "note": cell.note,
        "source": cell.source,
        "reproduction": _figure(reproduced) if reproduced else None,
        "other_recipes": [_figure(runs) for runs in ways.values()],
        "command": None if reproduced else _command(cell, wanted, out),
    }


def _other_batch_sizes(cell):
    """Batch sizes of the other cells of this network: their runs are no other way to this cell."""
    same = (c for c in itertools.chain(*TABLES.values()) if (c.model, c.arguments) == (cell.model, cell.arguments))
    return {c.batch_size for c in same} - {cell.batch_size}


def _figure(runs):
    """What runs of one way come to."""
    runs = sorted(runs, key=lambda run: (run.seed, run.origin))
    return {
        "recipe": ", ".join([runs[0].recipe, *runs[0].changes]),
        "steps": runs[0].values["steps"],
        "precision": sorted({run.values["dtype"] for run in runs}),
        "median": round(statistics.median(run.error for run in runs), 2),
        "runs": [
            {"seed": run.seed, "error": run.error, "precision": run.values["dtype"], "from": run.origin} for run in runs
        ],
    }


def _command(cell, wanted, out):
    """What trains a cell."""
    flags = {"model": cell.model, "recipe": RECIPE, **cell.arguments}
    if cell.batch_size != RECIPES[RECIPE].batch_size:
        flags.update(batch_size=cell.batch_size, steps=cell.steps)
    flags.update(seed=0, data_dir="cifar10.npz", out=_free_folder(cell, wanted, out))
    return " ".join(
        ["python -m train.train", *(f"--{flag} {shlex.quote(str(value))}" for flag, value in flags.items())]
    )


def _free_folder(cell, wanted, out):
    """A folder that holds no run, or this very one unfinished, which the command resumes."""
    # "exclusive_gating(bias=-6)" becomes exclusive_gating-6.
    variant = [re.sub(r"[(, ]+\w+=-?", "-", value).rstrip(")") for value in cell.arguments.values()]
    batch = [f"batch{cell.batch_size}"] if cell.batch_size != RECIPES[RECIPE].batch_size else []
    name = "-".join([cell.model, *variant, *batch])
    folders = (out / f"{name}{mark}-0" for mark in ("", *(f"-{RECIPE}{i}" for i in ("", *range(2, 100)))))
    return next(folder for folder in folders if not _holds_another_run(folder / "run.json", cell, wanted))


def _holds_another_run(record, cell, wanted):
    if not record.exists():
        return False
    held = json.loads(record.read_text(encoding="utf-8"))["settings"]
    own = {"model": cell.model, "arguments": cell.arguments, "recipe": RECIPE, "recipe_values": wanted, "seed": 0}
    return any(held.get(key) != value for key, value in own.items())


def _orders(cells):
    """Whether our errors stand in the paper's order: the reproductions', then those of each other recipe."""
    others = {}
    for cell in cells:
        for figure in cell["other_recipes"]:
            others.setdefault(_way(figure), []).append((cell, figure))
    reproduced = [(cell, cell["reproduction"]) for cell in cells if cell["reproduction"]]
    return [
        _order(RECIPE, True, reproduced),
        *(_order(way, False, measured) for way, measured in others.items() if len(measured) > 1),
    ]


def _order(way, reproduction, measured):
    ranked = sorted(measured, key=_paper_rank)
    pairs = [pair for pair in itertools.combinations(ranked, 2) if _paper_rank(pair[0]) < _paper_rank(pair[1])]
    exceptions = [
        f"{low['name']} ({ours['median']:.2f}) is not below {high['name']} ({theirs['median']:.2f})"
        for (low, ours), (high, theirs) in pairs
        if ours["median"] >= theirs["median"]
    ]
    return {
        "recipe": way,
        "reproduction": reproduction,
        "cells": len(measured),
        "as_the_paper": not exceptions if pairs else None,
        "exceptions": exceptions,
    }


def _paper_rank(measured):
    """The paper's figure; cells that fail come last, in no order among them."""
    return math.inf if measured[0]["paper"] is None else measured[0]["paper"]


def _fails(cell):
    ours = cell["reproduction"]
    return {
        "cell": cell["name"],
        "median": ours["median"] if ours else None,
        "failed": ours["median"] > FAILS_ABOVE if ours else None,
    }


def _way(figure):
    return f"{figure['recipe']}, {figure['steps']:,} steps"


def statements(report):
    """What a report says beyond its table.

    Args:
        report: as `compare` gives it.

    Returns:
        List of sentences.
    """
    missing = sum(cell["reproduction"] is None for cell in report["cells"])
    return [
        *map(_order_sentence, report["order"]),
        *_fails_sentences(report["fails"]),
        f"{missing} of {len(report['cells'])} cells have no run by the `{RECIPE}` recipe.",
    ]


def _order_sentence(order):
    what = f"the {order['cells']} reproduced cells" if order["reproduction"] else f"{order['cells']} cells"
    by = "" if order["reproduction"] else f" by {order['recipe']} (no reproduction)"
    if order["as_the_paper"] is None:
        return f"Order{by}: too few cells are {'reproduced' if order['reproduction'] else 'measured'} to compare it."
    if order["as_the_paper"]:
        return f"Order of {what}{by}: the paper's."
    return f"Order of {what}{by}: not the paper's. {'; '.join(order['exceptions'])}."


def _fails_sentences(fails):
    for cell in fails:
        if cell["failed"] is not None:
            verdict = "failed here too" if cell["failed"] else "did not fail here"
            yield f"Fails in the paper, {verdict}: {cell['cell']} ({cell['median']:.2f} %)."
    missing = sum(cell["failed"] is None for cell in fails)
    if missing:
        yield f"Fails in the paper, not reproduced yet: {missing} of {len(fails)} such cells."


def _rows(report):
    """Lines of the table: each cell, and below it what other recipes reach."""
    for cell in report["cells"]:
        paper = f"fails (> {FAILS_ABOVE:.0f})" if cell["paper"] is None else f"{cell['paper']:.2f}"
        paper += f" ({cell['note']})" if cell["note"] else ""
        reproduction = cell["reproduction"]
        ours = _figure_columns(reproduction) if reproduction else ("", "0", RECIPE, "")
        yield cell["name"], paper, f"{reproduction['median']:.2f}" if reproduction else "missing", "", *ours
        for figure in cell["other_recipes"]:
            yield cell["name"], "", "", f"{figure['median']:.2f}", *_figure_columns(figure)


def _figure_columns(figure):
    errors = ", ".join(f"{run['seed']}: {run['error']:.2f}" for run in figure["runs"])
    recipe = f"{figure['recipe']} ({', '.join(figure['precision'])})"
    return errors, str(len(figure["runs"])), recipe, f"{figure['steps']:,}"


def _commands(report):
    return [cell["command"] for cell in report["cells"] if cell["command"]]


def as_text(report):
    """The report for a terminal."""
    rows = [COLUMNS, *_rows(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{report['title']}: test error on CIFAR-10, percent", ""]
    for row in rows:
        parts = zip(COLUMNS, row, widths, strict=True)
        lines.append("  ".join(t.rjust(w) if c in RIGHT else t.ljust(w) for c, t, w in parts).rstrip())
    lines += ["", *statements(report)]
    commands = _commands(report)
    return "\n".join(lines + (["", "They are made by:", *commands] if commands else [])) + "\n"


def as_markdown(report):
    """The report for a page."""
    lines = [f"{report['title']}: test error on CIFAR-10, percent", "", _markdown_row(COLUMNS)]
    lines.append(_markdown_row("---:" if column in RIGHT else "---" for column in COLUMNS))
    lines += [*map(_markdown_row, _rows(report)), "", *(f"- {sentence}" for sentence in statements(report))]
    commands = _commands(report)
    return "\n".join(lines + (["", "They are made by:", "", "```bash", *commands, "```"] if commands else [])) + "\n"


def _markdown_row(texts):
    return f"| {' | '.join(texts)} |"


def as_json_text(report):
    """The report for programs."""
    return json.dumps({**report, "statements": statements(report)}, indent=2) + "\n"


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json_text}


def draw(report, path):
    """Draws the paper's figures as bars, ours as dots for all seeds and a stroke for the median.

    Args:
        report: as `compare` gives it.
        path: of the picture. Errors above 20 % stand in its shaded margin.
    """
    from matplotlib.figure import Figure

    cells, series = report["cells"], {"reproduced": []}
    for y, cell in enumerate(cells):
        series["reproduced"] += [(y, cell["reproduction"])] if cell["reproduction"] else []
        for figure in cell["other_recipes"]:
            series.setdefault(_way(figure), []).append((y, figure))
    axes = (picture := Figure(figsize=(9, 1.2 + 0.3 * len(cells)), layout="constrained")).subplots()
    axes.barh(range(len(cells)), [_within(cell["paper"]) for cell in cells], color="0.85", label="paper")
    for number, (label, figures) in enumerate(series.items()):
        dots = [(_within(run["error"]), y) for y, figure in figures for run in figure["runs"]]
        medians = [(_within(figure["median"]), y) for y, figure in figures]
        style = {"color": f"C{number}", "linestyle": ""}
        axes.plot([x for x, _ in dots], [y for _, y in dots], marker="x" if number else "o", label=label, **style)
        axes.plot([x for x, _ in medians], [y for _, y in medians], marker="|", markersize=14, **style)
    axes.axvspan(FAILS_ABOVE, FAILS_ABOVE + 2, color="C3", alpha=0.1, label="fails")
    axes.set(xlabel="test error (%)", title=f"{report['title']}, CIFAR-10", xlim=(0, FAILS_ABOVE + 2))
    axes.set_yticks(range(len(cells)), [cell["name"] for cell in cells])
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(axis="x", alpha=0.3)
    picture.savefig(path, dpi=120)


def _within(error):
    """An error where the picture has room for it: all that fails in its margin."""
    return FAILS_ABOVE + 1 if error is None or error > FAILS_ABOVE else error


def main(argv=None):
    """Prints one table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.reproduce", description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=TABLES, help="of He et al. 2016; resnet: Table 6 of He et al. 2015")
    parser.add_argument("--runs", help="folder with the folders of runs (default: runs, where there is one)")
    parser.add_argument("--weights_dir", default="weights", help="folder of published weights (default: weights)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of what is printed (default: text)")
    parser.add_argument("--plot", metavar="FILE", help="draw the table into FILE")
    arguments = parser.parse_args(argv)
    runs = arguments.runs or ("runs" if pathlib.Path("runs").is_dir() else None)
    try:
        report = compare(arguments.table, collect(arguments.weights_dir, runs), runs or "runs")
        if arguments.plot:
            draw(report, arguments.plot)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print(FORMATS[arguments.format](report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
