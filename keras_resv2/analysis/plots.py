"""The papers' figures, drawn from what `keras_resv2.analysis` measured. Needs matplotlib."""

import pathlib

import numpy as np

SIZE, DPI = (7, 4.2), 120


def draw_propagation(studies, path):
    """Signal variance, gradient norm and the two norms of eq. 8, unit by unit, one line per network.

    Args:
        studies: dictionary from a title to a `Propagation`.
        path: of the picture; its ending chooses the format.

    Raises:
        ImportError: matplotlib is not installed.

    Example:

    >>> draw_propagation({"new": propagate(network, images, labels)}, "propagation.png")  # doctest: +SKIP
    """
    figure, (left, middle, right) = _figure(3, (14, 4.2))
    for color, (title, study) in zip(_colors(), studies.items(), strict=False):
        units = np.arange(1, len(study.units) + 1)
        left.plot(units, study.variance, color=color, label=title)
        middle.plot(units, study.gradient_norm, color=color, label=title)
        right.plot(units, study.straight_norm, color=color, label=f"{title}: measured")
        right.plot(units, study.predicted_norm, color=color, linestyle=":", label=f"{title}: eq. 8")
    for axes, what in zip(
        (left, middle, right),
        ("variance of the unit's input", "gradient at the unit's input", "gradient through shortcuts alone"),
        strict=True,
    ):
        axes.set(xlabel="unit", ylabel=what, yscale="log")
        axes.legend(fontsize="x-small")
    _save(figure, path)


def draw_deletions(studies, path):
    """Error without each unit (Veit et al. 2016, Fig. 3). Units that change the size are marked.

    Args:
        studies: dictionary from a title to a `Deletions`.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, (axes,) = _figure(1, SIZE)
    for color, (title, study) in zip(_colors(), studies.items(), strict=False):
        units = np.arange(1, len(study.units) + 1)
        axes.plot(units, study.errors, color=color, marker=".", label=title)
        axes.plot(units[study.changes_size], study.errors[study.changes_size], "D", color=color, markersize=5)
        axes.axhline(study.intact_error, color=color, linestyle=":", linewidth=1)
    axes.set(xlabel="deleted unit (diamonds change the size)", ylabel="test error, %", ylim=(0, 100))
    axes.legend(title="dotted: the whole network", fontsize="small")
    _save(figure, path)


def draw_random_deletions(study, path):
    """Error without k random units, median and quartiles (Veit et al. 2016, Fig. 5 a).

    Args:
        study: `RandomDeletions`.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, (axes,) = _figure(1, SIZE)
    counts, low, median, high = study.quartiles().T
    axes.fill_between(counts, low, high, alpha=0.3, label="quartiles")
    axes.plot(counts, median, label="median")
    axes.axhline(study.intact_error, linestyle=":", label="whole network")
    axes.set(xlabel=f"units deleted from {study.network}", ylabel="test error, %", ylim=(0, 100))
    axes.legend()
    _save(figure, path)


def draw_reorderings(study, path):
    """Error against Kendall's tau of the order of the units (Veit et al. 2016, Fig. 5 b).

    Args:
        study: `Reorderings`.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, (axes,) = _figure(1, SIZE)
    axes.scatter(study.taus, study.errors, s=10)
    axes.axhline(study.intact_error, linestyle=":", label="whole network")
    axes.set(xlabel=f"Kendall's tau of the order of {study.network}'s units", ylabel="test error, %", ylim=(0, 100))
    axes.invert_xaxis()
    axes.legend()
    _save(figure, path)


def draw_paths(study, path):
    """Numbers of paths, their gradients, and the product, by length (Veit et al. 2016, Fig. 6).

    Args:
        study: `PathGradients`.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from keras_resv2.analysis.paths import paths_by_length

    figure, (left, middle, right) = _figure(3, (14, 4.2))
    left.bar(range(study.units + 1), [float(n) for n in paths_by_length(study.units)])
    left.set(xlabel="length", ylabel="paths")
    lengths, means, totals = study.by_length()
    middle.scatter(study.lengths, study.norms, s=6, alpha=0.4)
    middle.plot(lengths, means, color="black", label=f"mean; each unit leaves {100 * study.decay():.1f} %")
    middle.set(xlabel="length", ylabel="gradient of a path", yscale="log")
    middle.legend(fontsize="small")
    shortest, longest, share = study.effective_range()
    right.bar(lengths, totals / totals.max(), color=["C1" if shortest <= k <= longest else "C0" for k in lengths])
    right.set(xlabel="length", ylabel="gradient of all its paths, largest is 1")
    right.set_title(f"lengths {shortest} to {longest}: {100 * share:.2g} % of the paths", fontsize="small")
    _save(figure, path)


def draw_grad_cam(study, images, path, class_names=None):
    """Each image beside its map, which is laid over it, in pairs of columns.

    Args:
        study: `keras_resv2.analysis.GradCam`.
        images: ``(n, height, width, 3)``, pixels from 0 to 255, those of the study.
        path: of the figure.
        class_names: in the order of the classes; None for their numbers.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    images, maps = np.asarray(images).astype("uint8"), study.resized(np.asarray(images).shape[1:3])
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3 * columns, 1.75 * rows + 0.6), layout="constrained", dpi=DPI)
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for i, (image, heat) in enumerate(zip(images, maps, strict=True)):
        row, column = divmod(i, columns)
        plain, overlaid = grid[row][2 * column : 2 * column + 2]
        number = int(study.classes[i])
        plain.imshow(image)
        plain.set_title(class_names[number] if class_names else f"class {number}", fontsize="small", loc="left")
        overlaid.imshow(image.mean(-1), cmap="gray")
        shown = overlaid.imshow(heat, cmap="viridis", alpha=0.6, vmin=0, vmax=1)
    figure.suptitle(f"{study.network}: Grad-CAM at {study.layer}")
    figure.colorbar(shown, ax=grid, shrink=0.8, label="share of the image's maximum")
    _save(figure, path)


def check_matplotlib():
    """Raises ImportError, with what to do, where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("the figures need matplotlib: pip install matplotlib") from None


def _figure(columns, size):
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _colors():
    import matplotlib

    return matplotlib.color_sequences["tab10"] * 3


def _save(figure, path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
