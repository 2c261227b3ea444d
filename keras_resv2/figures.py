"""The style of all figures: one palette, a light grid, and legends below the panels. Requires matplotlib.

The palette is that of Okabe and Ito 2008, which is safe for color-blind readers, without yellow, which is too light for
lines.
"""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_resv2.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI, GRID = (7, 4.4), 120, 0.3
BLUE, VERMILION, GRAY = "#0072b2", "#d55e00", "0.4"
COLORS = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
CHARACTERS, MARKER = 12, 6  # of a small legend: characters per inch; width of a marker in characters


def check_matplotlib() -> None:
    """Raises ImportError with instructions if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("figures require matplotlib: pip install matplotlib") from None


def new_figure(columns: int = 1, size: tuple[float, float] = SIZE, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Creates a figure with panels whose lines have the colors of the palette.

    Args:
        columns, rows: numbers of panels.
        size: width and height in inches.
        **options: other arguments of `matplotlib.figure.Figure.subplots`.

    Returns:
        ``(figure, panels)``: panels is an array of axes, row by row, ``(rows * columns,)``.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:

    >>> figure, (axes,) = new_figure()  # doctest: +SKIP
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axes in panels:
        axes.set_prop_cycle(color=COLORS)
    return figure, panels


def add_grid(*panels: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draws a light grid behind the data."""
    for axes in panels:
        axes.grid(alpha=GRID, axis=axis)
        axes.set_axisbelow(True)


def add_legend(figure: Figure, *panels: Axes) -> None:
    """Draws one legend for the given panels below all panels, where it does not cover curves."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = int(CHARACTERS * figure.get_figwidth() / max(len(label) + MARKER for label in handles))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=int(np.clip(columns, 1, len(handles))),
        fontsize="small",
    )


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure atomically; the extension selects the format."""
    path = pathlib.Path(path)
    with atomic_write(path) as partial:
        figure.savefig(partial, format=path.suffix.lstrip(".").lower() or "png")
