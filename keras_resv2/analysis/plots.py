"""Draws the papers' figures from results of `keras_resv2.analysis`. Requires matplotlib."""

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resv2.analysis.grad_cam import GradCam
from keras_resv2.analysis.lesions import Deletions, RandomDeletions, Reorderings
from keras_resv2.analysis.paths import PathGradients, paths_by_length
from keras_resv2.analysis.propagation import Propagation
from keras_resv2.figures import BLUE, COLORS, GRAY, VERMILION, add_grid, add_legend, new_figure, save_figure


def draw_propagation(studies: Mapping[str, Propagation], path: str | os.PathLike) -> None:
    """Plots signal variance, gradient norm and the two norms of eq. 8 by unit, one line per network.

    Args:
        studies: dictionary from a title to a `Propagation`.
        path: path of the image; its extension selects the format.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:

    >>> draw_propagation({"new": propagate(network, images, labels)}, "propagation.png")  # doctest: +SKIP
    """
    figure, (left, middle, right) = new_figure(3, (14, 4.6))
    for color, (title, study) in zip(itertools.cycle(COLORS), studies.items(), strict=False):
        units = np.arange(1, len(study.units) + 1)
        left.plot(units, study.variance, color=color, label=title)
        middle.plot(units, study.gradient_norm, color=color)
        right.plot(units, study.straight_norm, color=color)
        right.plot(units, study.predicted_norm, color=color, linestyle=":")
    left.set(title="signal", ylabel="variance of the unit's input")
    middle.set(title="gradient", ylabel="norm of the gradient at the unit's input")
    right.plot([], [], color=GRAY, linestyle=":", label="eq. 8, of the gradient through the shortcuts")
    right.set(title="gradient through shortcuts only", ylabel="norm at the unit's input")
    for axes in (left, middle, right):
        axes.set(xlabel="unit", yscale="log")
        add_grid(axes)
    add_legend(figure, left, right)
    _save(figure, path)


def draw_deletions(studies: Mapping[str, Deletions], path: str | os.PathLike) -> None:
    """Plots the error without each unit (Veit et al. 2016, Fig. 3). Units that change the size are marked.

    Units that cannot be deleted (those that change the size in a network without shortcuts) have no error and leave a
    gap in the line.

    Args:
        studies: dictionary from a title to a `Deletions`.
        path: path of the image.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure, (axes,) = new_figure()
    for color, (title, study) in zip(itertools.cycle(COLORS), studies.items(), strict=False):
        units = np.arange(1, len(study.units) + 1)
        axes.plot(units, study.errors, color=color, marker=".", label=title)
        axes.plot(units[study.changes_size], study.errors[study.changes_size], "D", color=color, markersize=5)
        axes.axhline(study.intact_error, color=color, linestyle=":", linewidth=1)
    axes.set(title="one unit deleted (dotted: none; diamonds: the unit changes the size)", xlabel="deleted unit")
    _error_axis(axes)
    add_legend(figure, axes)
    _save(figure, path)


def draw_random_deletions(study: RandomDeletions, path: str | os.PathLike, title: str | None = None) -> None:
    """Plots median and quartiles of the error without k random units (Veit et al. 2016, Fig. 5 a).

    Args:
        study: `RandomDeletions`.
        path: path of the image.
        title: name of the network in the figure; None for the model's own name.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure, (axes,) = new_figure()
    counts, low, median, high = study.quartiles().T
    axes.fill_between(counts, low, high, alpha=0.3, label="quartiles")
    axes.plot(counts, median, label="median")
    axes.axhline(study.intact_error, color=GRAY, linestyle=":", label="whole network")
    axes.set(title=f"random units deleted: {title or study.network}", xlabel="units deleted")
    _error_axis(axes)
    add_legend(figure, axes)
    _save(figure, path)


def draw_reorderings(study: Reorderings, path: str | os.PathLike, title: str | None = None) -> None:
    """Plots the error against Kendall's tau of the order of the units (Veit et al. 2016, Fig. 5 b).

    Args:
        study: `Reorderings`.
        path: path of the image.
        title: name of the network in the figure; None for the model's own name.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure, (axes,) = new_figure()
    axes.scatter(study.taus, study.errors, s=10, label="units swapped")
    axes.axhline(study.intact_error, color=GRAY, linestyle=":", label="whole network")
    axes.set(title=f"units swapped: {title or study.network}", xlabel="Kendall's tau of the order of the units")
    _error_axis(axes)
    axes.invert_xaxis()
    add_legend(figure, axes)
    _save(figure, path)


def draw_paths(study: PathGradients, path: str | os.PathLike, title: str | None = None) -> None:
    """Plots the numbers of paths, their gradients and the product by length (Veit et al. 2016, Fig. 6).

    Args:
        study: `PathGradients`.
        path: path of the image.
        title: name of the network in the figure; None for none.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure, (left, middle, right) = new_figure(3, (14, 4.6))
    left.bar(range(study.units + 1), [float(n) for n in paths_by_length(study.units)])
    left.set(title="paths of each length", ylabel="number of paths")
    lengths, means, totals = study.by_length()
    middle.scatter(study.lengths, study.norms, s=6, alpha=0.4)
    middle.plot(lengths, means, color="black")
    middle.set(ylabel="norm of a path's gradient", yscale="log")
    middle.set_title(f"gradients of sampled paths\n(line: mean; each unit leaves {100 * study.decay():.1f} %)")
    shortest, longest, share = study.effective_range()
    right.bar(lengths, totals / totals.max(), color=[VERMILION if shortest <= k <= longest else BLUE for k in lengths])
    right.set(ylabel="number times mean gradient, largest is 1")
    right.set_title(f"gradient of all paths of each length\n(red: 95 % of it, from {100 * share:.2g} % of the paths)")
    for axes in (left, middle, right):
        axes.set(xlabel="length of the path, in units")
        add_grid(axes)
    if title:
        figure.suptitle(title)
    _save(figure, path)


def draw_grad_cam(
    study: GradCam, images: np.ndarray, path: str | os.PathLike, class_names: Sequence[str] | None = None
) -> None:
    """Draws each image next to a copy with its map overlaid, in pairs of columns.

    Args:
        study: `keras_resv2.analysis.GradCam`.
        images: ``(n, height, width, 3)``, pixels from 0 to 255, those of the study.
        path: path of the figure.
        class_names: names in the order of the classes; None to show class indices.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    images = np.clip(images, 0, 255).astype("uint8")  # resizing by splines can exceed the range
    maps = study.resized(images.shape[1:3])
    class_names = None if class_names is None else [str(name) for name in class_names]
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure, grid = new_figure(2 * columns, (3 * columns, 1.75 * rows + 0.6), rows)
    for axes in grid:
        axes.axis("off")
    for i, (image, heat) in enumerate(zip(images, maps, strict=True)):
        row, column = divmod(i, columns)
        plain, overlaid = grid.reshape(rows, -1)[row, 2 * column : 2 * column + 2]
        number = int(study.classes[i])
        plain.imshow(image)
        plain.set_title(
            class_names[number] if class_names else f"class {number}", fontsize="small", loc="left", parse_math=False
        )
        overlaid.imshow(image.mean(-1), cmap="gray")
        shown = overlaid.imshow(heat, cmap="viridis", alpha=0.6, vmin=0, vmax=1)
    figure.suptitle(f"{study.network}: Grad-CAM at {study.layer}")
    figure.colorbar(shown, ax=grid, shrink=0.8, label="fraction of the image's maximum")
    _save(figure, path)


def _save(figure, path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def _error_axis(axes):
    axes.set(ylabel="test error (%)", ylim=(0, 100))
    add_grid(axes)
