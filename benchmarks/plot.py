"""Plots the ratios."""

from benchmarks.summary import QUANTITIES
from keras_resv2.figures import BLUE, VERMILION, new_figure, save_figure

PRECISIONS = {"float32": BLUE, "bfloat16": VERMILION}


def draw(report, path):
    """Draws the ratio of every contender as a bar with its quartiles, one panel per network and measure.

    Args:
        report: dictionary returned by `benchmarks.__main__.run`.
        path: path of the image.
    """
    from matplotlib.patches import Patch

    panels = {}
    for row in report["rows"]:
        if row["ratio"]:
            panels.setdefault((row["network"], row["measure"]), []).append(row)
    heights = [len(rows) + 1.5 for rows in panels.values()]
    size = (9, 1 + 0.24 * sum(heights))
    figure, panes = new_figure(1, size, max(1, len(panels)), height_ratios=heights or None)
    for axes, ((network, measure), rows) in zip(panes, panels.items(), strict=False):
        _panel(axes, f"{network}: {QUANTITIES[measure].title}", rows)
    figure.legend(
        handles=[Patch(color=color, label=name) for name, color in PRECISIONS.items()],
        loc="outside upper right",
        ncols=len(PRECISIONS),
    )
    figure.suptitle("times better than the reference", fontsize=10, x=0.02, ha="left")
    save_figure(figure, path)


def _panel(axes, title, rows):
    ratio = [row["ratio"] for row in rows]
    middle = [r["median"] for r in ratio]
    reach = [
        [m - r["low"] for m, r in zip(middle, ratio, strict=True)],
        [r["high"] - m for m, r in zip(middle, ratio, strict=True)],
    ]
    axes.barh(range(len(rows)), middle, xerr=reach, color=[PRECISIONS[row["precision"]] for row in rows], ecolor="0.6")
    axes.set_yticks(range(len(rows)), [row["contender"] for row in rows], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(title, loc="left", fontsize=9)
