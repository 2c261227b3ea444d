"""Formats the comparison with a table of the papers as text, Markdown, JSON and a figure."""

import json

from keras_resv2.figures import COLORS, GRAY, VERMILION, add_grid, new_figure, save_figure
from train.paper_tables.figures import FAILS_ABOVE, RECIPE

COLUMNS = ("cell", "paper", "reproduced", "other recipe", "errors by seed", "runs", "recipe", "steps")
MARGIN = 4  # of the figure, for errors that are not drawn to scale, in percent
RIGHT = ("paper", "reproduced", "other recipe", "runs", "steps")


def statements(report):
    """Returns the statements of a report besides its table.

    Args:
        report: returned by `train.paper_tables.comparison.compare`.

    Returns:
        List of sentences.
    """
    missing = sum(cell["reproduction"] is None for cell in report["cells"])
    return [
        *map(_order_sentence, report["order"]),
        *_fails_sentences(report["fails"]),
        f"{missing} of {len(report['cells'])} cells have no run with the `{RECIPE}` recipe.",
    ]


def _order_sentence(order):
    what = f"the {order['cells']} reproduced cells" if order["reproduction"] else f"{order['cells']} cells"
    by = "" if order["reproduction"] else f" by {order['recipe']} (no reproduction)"
    if order["as_the_paper"] is None:
        return f"Order{by}: too few cells are {'reproduced' if order['reproduction'] else 'measured'} to compare it."
    if order["as_the_paper"]:
        return f"Order of {what}{by}: as in the paper."
    return f"Order of {what}{by}: not as in the paper. {'; '.join(order['exceptions'])}."


def _fails_sentences(fails):
    for cell in fails:
        if cell["failed"] is not None:
            verdict = "failed here too" if cell["failed"] else "did not fail here"
            yield f"Fails in the paper, {verdict}: {cell['cell']} ({cell['median']:.2f} %)."
    missing = sum(cell["failed"] is None for cell in fails)
    if missing:
        yield f"Fails in the paper, not reproduced yet: {missing} of {len(fails)} such cells."


def _rows(report):
    """Returns the rows of the table: each cell, followed by results of other recipes."""
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


def _datasets(report):
    return sorted({cell["dataset"] for cell in report["cells"]})


def _title(report):
    return f"{report['title']}: test error on {' and '.join(_datasets(report))}, percent"


def as_text(report):
    """Formats the report as text."""
    rows = [COLUMNS, *_rows(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_title(report), ""]
    for row in rows:
        parts = zip(COLUMNS, row, widths, strict=True)
        lines.append("  ".join(t.rjust(w) if c in RIGHT else t.ljust(w) for c, t, w in parts).rstrip())
    lines += ["", *statements(report)]
    commands = _commands(report)
    return "\n".join(lines + (["", "Commands that train them:", *commands] if commands else [])) + "\n"


def as_markdown(report):
    """Formats the report as Markdown."""
    lines = [_title(report), "", _markdown_row(COLUMNS)]
    lines.append(_markdown_row("---:" if column in RIGHT else "---" for column in COLUMNS))
    lines += [*map(_markdown_row, _rows(report)), "", *(f"- {sentence}" for sentence in statements(report))]
    commands = _commands(report)
    return (
        "\n".join(lines + (["", "Commands that train them:", "", "```bash", *commands, "```"] if commands else []))
        + "\n"
    )


def _markdown_row(texts):
    return f"| {' | '.join(texts)} |"


def as_json_text(report):
    """Formats the report as JSON."""
    return json.dumps({**report, "statements": statements(report)}, indent=2) + "\n"


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json_text}


def draw(report, path):
    """Draws the paper's errors as bars, ours as dots for all seeds and a line for the median.

    Args:
        report: returned by `train.paper_tables.comparison.compare`.
        path: path of the image. Errors above 20 %, which the papers report as failed, are in its shaded margin, as a
            word for the papers, which give no number.
    """
    cells, series = report["cells"], {"reproduced": []}
    for y, cell in enumerate(cells):
        series["reproduced"] += [(y, cell["reproduction"])] if cell["reproduction"] else []
        for figure in cell["other_recipes"]:
            series.setdefault(figure["way"], []).append((y, figure))
    image, (axes,) = new_figure(size=(9, 1.2 + 0.3 * len(cells)))
    known = [(y, cell["paper"]) for y, cell in enumerate(cells) if cell["paper"] is not None]
    axes.barh([y for y, _ in known], [error for _, error in known], color="0.85", label="paper")
    for y in set(range(len(cells))) - {y for y, _ in known}:
        axes.text(FAILS_ABOVE + 0.2, y, "paper: fails", va="center", fontsize="small", color=GRAY)
    for number, (label, figures) in enumerate(series.items()):
        dots = [(_within(run["error"]), y) for y, figure in figures for run in figure["runs"]]
        medians = [(_within(figure["median"]), y) for y, figure in figures]
        style = {"color": COLORS[number % len(COLORS)], "linestyle": ""}
        axes.plot([x for x, _ in dots], [y for _, y in dots], marker="x" if number else "o", label=label, **style)
        axes.plot([x for x, _ in medians], [y for _, y in medians], marker="|", markersize=14, **style)
    title = ", ".join([report["title"], *(name for name in _datasets(report) if name not in report["title"])])
    axes.axvspan(FAILS_ABOVE, FAILS_ABOVE + MARGIN, color=VERMILION, alpha=0.1, label=f"more than {FAILS_ABOVE:.0f} %")
    axes.set(xlabel="test error (%)", title=title, xlim=(0, FAILS_ABOVE + MARGIN))
    axes.set_xticks(range(0, int(FAILS_ABOVE) + 1, 5))
    axes.set_yticks(range(len(cells)), [cell["name"] for cell in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    image.legend(loc="outside right upper")
    add_grid(axes, axis="x")
    save_figure(image, path)


def _within(error):
    """Returns the position of an error in the figure: in the margin if training failed."""
    return FAILS_ABOVE + MARGIN - 0.5 if error is None or error > FAILS_ABOVE else error
