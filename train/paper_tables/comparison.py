"""Compares a table of the papers with our errors: what is reproduced, whether the order agrees, and what is missing.

A reproduction is a run with the `paper` recipe and the steps and batch size of the cell; only the precision may differ.
Results of other recipes are kept separate.
"""

import dataclasses
import itertools
import math
import pathlib
import re
import statistics

from keras_resv2.data import DATASETS
from train.config import FORMS, RunConfig
from train.paper_tables.figures import DATASET, FAILS_ABOVE, RECIPE, TABLES, network
from train.paper_tables.results import APART, as_json, recipe_values, without
from train.recipes import RECIPES
from train.run_files import RUN_FILE, completed_settings, read_record


def compare(table, found, out="runs"):
    """Compares each cell of a table with our results.

    Args:
        table: a key of `train.paper_tables.figures.TABLES`.
        found: list of `train.paper_tables.results.Run`.
        out: output folder in the commands for missing cells.

    Returns:
        JSON-serialisable dictionary: table, title, cells, and statements about them: order, fails.
    """
    columns = {cell.column for cell in TABLES[table]}
    others = {cell.dataset for cell in TABLES[table]} - {DATASET}
    cells = []
    for cell in TABLES[table]:
        name = cell.row if len(columns) == 1 else f"{cell.row}, {cell.column}"
        cells.append({"name": name, **_compare_cell(cell, found, pathlib.Path(out))})
    return {
        "table": table,
        "title": ", ".join([TABLES[table][0].source, *(columns if len(columns) == 1 else []), *others]),
        "cells": cells,
        "order": _orders(cells),
        "fails": [_fails(cell) for cell in cells if cell["paper"] is None],
    }


def _compare_cell(cell, found, out):
    made = network(cell.model, cell.arguments)
    wanted = recipe_values(dataclasses.replace(RECIPES[RECIPE], steps=cell.steps, batch_size=cell.batch_size))
    ways = {}
    for run in found:
        same = (run.dataset, run.network) == (cell.dataset, made)
        if same and run.values.get("batch_size") not in _other_batch_sizes(cell):
            ways.setdefault(run.way, []).append(run)
    reproduced = ways.pop((RECIPE, as_json(without(wanted, *APART))), None)
    return {
        "row": cell.row,
        "column": cell.column,
        "dataset": cell.dataset,
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
    """Returns the batch sizes of other cells of this network, whose runs do not belong to this cell."""
    same = (cell.dataset, cell.model, cell.arguments)
    cells = itertools.chain(*TABLES.values())
    return {c.batch_size for c in cells if (c.dataset, c.model, c.arguments) == same} - {cell.batch_size}


def _figure(runs):
    """Summarizes runs that were trained in the same way."""
    runs = sorted(runs, key=lambda run: (run.seed, run.origin))
    recipe = ", ".join([runs[0].recipe, *runs[0].changes])
    return {
        "way": f"{recipe}, {runs[0].steps:,} steps",
        "recipe": recipe,
        "steps": runs[0].steps,
        "precision": sorted({run.values["dtype"] for run in runs}),
        "median": round(statistics.median(run.error for run in runs), 2),
        "runs": [
            {"seed": run.seed, "error": run.error, "precision": run.values["dtype"], "from": run.origin} for run in runs
        ],
    }


def _command(cell, wanted, out):
    """Returns the command that trains a cell, or resumes an unfinished run of it with its precision and form."""
    folder = _free_folder(cell, wanted, out)
    held = _held(folder) or {"recipe_values": wanted}
    recipe = dataclasses.replace(
        RECIPES[RECIPE], steps=cell.steps, batch_size=cell.batch_size, dtype=held["recipe_values"]["dtype"]
    )
    forms = tuple(form for form in FORMS if held.get(form))
    config = RunConfig(cell.model, RECIPE, recipe, cell.dataset, cell.arguments, forms)
    return dataclasses.replace(config, data_dir=f"{cell.dataset}.npz", out=folder).command(places=True)


def _free_folder(cell, wanted, out):
    """Returns a folder without a run, or with this run unfinished, which the command resumes."""
    # "exclusive_gating(bias=-6)" becomes exclusive_gating-6.
    variant = [re.sub(r"[(, ]+\w+=-?", "-", value).rstrip(")") for value in cell.arguments.values()]
    batch = [f"batch{cell.batch_size}"] if cell.batch_size != RECIPES[RECIPE].batch_size else []
    dataset = [] if cell.dataset == DATASET else [cell.dataset]
    name = "-".join([cell.model, *variant, *batch, *dataset])
    folders = (out / f"{name}{mark}-0" for mark in ("", *(f"-{RECIPE}{i}" for i in ("", *range(2, 100)))))
    return next(folder for folder in folders if not _holds_another_run(folder, cell, wanted))


def _held(folder):
    """Returns the settings of the run in a folder; None if there is none."""
    return read_record(folder)["settings"] if (folder / RUN_FILE).exists() else None


def _holds_another_run(folder, cell, wanted):
    held = _held(folder)
    if held is None:
        return False
    own = {
        "model": cell.model,
        "arguments": cell.arguments,
        "dataset": cell.dataset,
        **{f"{split}_images": count for split, count in DATASETS[cell.dataset].examples.items()},
        "recipe": RECIPE,
        "seed": 0,
        "resize": None,
        "initial_weights": None,
    }
    held = completed_settings(held)
    same_values = without(held["recipe_values"], *APART) == without(wanted, *APART)
    return not same_values or any(held.get(key) != value for key, value in own.items())


def _orders(cells):
    """Checks whether our errors are in the paper's order: the reproductions, then each other recipe."""
    others = {}
    for cell in cells:
        for figure in cell["other_recipes"]:
            others.setdefault(figure["way"], []).append((cell, figure))
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
    """Returns the paper's error as a sort key; cells that fail come last, in no particular order."""
    return math.inf if measured[0]["paper"] is None else measured[0]["paper"]


def _fails(cell):
    ours = cell["reproduction"]
    return {
        "cell": cell["name"],
        "median": ours["median"] if ours else None,
        "failed": ours["median"] > FAILS_ABOVE if ours else None,
    }
