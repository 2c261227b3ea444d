"""keras-resv2 analyze propagation|lesions|paths|cam NAME ..."""

import contextlib
import dataclasses
import json
import math
import pathlib
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_resv2 import analysis
from keras_resv2.analysis import plots
from keras_resv2.architectures import is_architecture
from keras_resv2.builders import build
from keras_resv2.cli.evaluate import TRAINED_ON
from keras_resv2.cli.network_names import check_network
from keras_resv2.cli.terminal import check_seed
from keras_resv2.data import described, find_dataset, load_split, open_dataset
from keras_resv2.data.arrays import sample_positions
from keras_resv2.data.splits import TEST
from keras_resv2.figures import check_matplotlib
from keras_resv2.files import write_csv
from keras_resv2.labels import class_names, dataset_of, load_images, may_contain_training_images
from keras_resv2.models.graph import unit_calls
from keras_resv2.pretrained import from_pretrained, is_pretrained, pretrained_card
from keras_resv2.startup import print_stderr
from keras_resv2.storage.local import is_folder

LEAST_IMAGES, SMALL_PIXELS = 12, 64 * 64  # studies use fewer images if they are larger, but at least so many


def run_study(arguments):
    """Runs a study; returns the exit code.

    Args:
        arguments: those of `keras-resv2 analyze`.

    Raises:
        ValueError: if the network does not exist, or does not match the data.
        ImportError: if matplotlib is not installed.
    """
    check_matplotlib()
    variant = {key: getattr(arguments, key) for key in ("weights", "activation", "shortcut") if getattr(arguments, key)}
    for name in arguments.names:
        _check_name(name, variant)
    shortcuts = variant.pop("shortcut", [None])
    if arguments.draws < 1:
        raise ValueError(f"--draws {arguments.draws} must be at least 1.")
    check_seed(arguments.seed)
    cards = [pretrained_card(name) for name in arguments.names if not is_architecture(name)]
    dataset = _dataset(arguments, cards)
    study, text, usual = STUDIES[arguments.study]
    usual = usual and _fewer(usual, dataset.image_shape)
    limit = arguments.images
    if limit is not None and limit < 1:
        raise ValueError(f"--images {limit} must be at least 1.")
    if cards:  # as fine-tuned networks were trained: resized, or from class folders
        if dataset_of(cards[0], arguments.data_dir).streamed:
            raise ValueError(
                f"{cards[0].full_name}: a study needs images in memory: pass --data_dir a folder with one folder of "
                "images per class, or call keras_resv2.analysis with an array."
            )
        images, labels = load_images(cards[0], TEST, arguments.data_dir, most=limit or usual)
        if may_contain_training_images(cards[0], arguments.data_dir):
            print_stderr(TRAINED_ON)
    else:
        images, labels = load_split(dataset, TEST, arguments.data_dir)
    if limit is not None and limit > len(labels):
        raise ValueError(f"--images {limit} must be from 1 to {len(labels)}.")
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)
    cases = {}
    for name in arguments.names:
        for shortcut in shortcuts:
            title = f"{name}-{shortcut}" if shortcut else _title(name)
            if title in cases:
                raise ValueError(f"{name} and another network are both called {title}: study them separately.")
            cases[title] = _open(name, {**variant, **({"shortcut": shortcut} if shortcut else {})}, dataset)
    if arguments.study in ("propagation", "paths"):  # before any study
        for title, case in cases.items():
            if not all(_has_addition(nodes) for nodes in unit_calls(case.model).values()):
                raise ValueError(f"{title} is a plain network, without shortcuts: leave it out of {arguments.study}.")
    arguments.class_names = class_names(cards[0]) if cards else dataset.class_names
    arguments.positions = sample_positions(labels, limit or usual or len(labels))
    facts = study(cases, images[arguments.positions], labels[arguments.positions], folder, arguments)
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, values in facts.items():
            print(text.format(name=name, **{key: float("nan") if v is None else v for key, v in values.items()}))
    return 0


def _has_addition(nodes):
    return any(node.operation.name.endswith("_add") for node in nodes)


def _fewer(images, image_shape):
    """Returns the usual number of images of a study, fewer of large ones, because all feature maps are in memory."""
    pixels = math.prod(sorted(image_shape)[-2:])
    return min(images, max(LEAST_IMAGES, images * SMALL_PIXELS // pixels))


def _title(name):
    """Returns the name of a network in tables and file names: for a folder or repository, that of its card."""
    return pretrained_card(name).full_name if is_folder(name) else name


def _check_name(name, variant):
    check_network(name)
    if is_pretrained(name) and variant:
        raise ValueError(f"--{next(iter(variant))} is for architectures; {name} already has weights and layers.")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network to study.

    Attributes:
        model: `keras.Model`.
        new: whether its weights are random, so that batch normalization must use batch statistics.
    """

    model: object
    new: bool


def _dataset(arguments, cards):
    """Returns the dataset of the study: that of the pretrained networks' cards, otherwise the one given."""
    found = {(known.name, known.class_names, known.image_shape): known for known in map(described, cards)}
    if arguments.dataset is not None or not found:
        known = open_dataset(find_dataset(arguments.dataset or "cifar10").name, arguments.data_dir)
        found[known.name, known.class_names, known.image_shape] = known
    if len(found) > 1:
        names = ", ".join(sorted(name for name, *_ in found))
        raise ValueError(f"these networks belong to several datasets ({names}): study them separately.")
    return next(iter(found.values()))


def _open(name, variant, dataset):
    if is_architecture(name):
        pixels = {"preprocessing": dataset.pixels} if dataset.pixels else {}
        network = {"classes": dataset.classes, "input_shape": dataset.image_shape, **pixels}
        return Case(build(name, **network, **variant), "weights" not in variant)
    return Case(from_pretrained(name), False)


def _finite(function, values):
    """Returns the minimum or maximum of the finite values; None if there are none, because JSON has no NaN."""
    values = values[np.isfinite(values)]
    return float(function(values)) if len(values) else None


def _propagation(cases, images, labels, folder, arguments):
    studies, facts = {}, {}
    for name, case in cases.items():
        studies[name] = study = analysis.propagate(case.model, images, labels, training=case.new)
        facts[name] = {
            "batch_statistics": case.new,
            "least_residual": _finite(np.min, study.residual),
            "largest_residual": _finite(np.max, study.residual),
            "gradient_first_to_last": float(study.gradient_norm[0] / study.gradient_norm[-1]),
            "straight_norm": float(study.straight_norm[0]),
            "predicted_norm": float(study.predicted_norm[0]),
        }
    columns = next(iter(studies.values())).columns()
    rows = [(name, *row) for name, s in studies.items() for row in zip(*s.columns().values(), strict=True)]
    write_csv(folder / "propagation.csv", ("network", *columns), rows)
    plots.draw_propagation(studies, folder / "propagation.png")
    return facts


PROPAGATION_TEXT = """{name}:
  x_L differs from x_l + the sum of F by {least_residual:.2g} to {largest_residual:.2g} of its norm (eq. 4)
  gradient at the first unit: {gradient_first_to_last:.2g} times the last one's
  gradient through shortcuts only: {straight_norm:.2g}; by eq. 8: {predicted_norm:.2g}"""


def _lesions(cases, images, labels, folder, arguments):
    each, facts = {}, {}
    draws = dict(draws=arguments.draws, seed=arguments.seed)
    for name, case in cases.items():

        def study(kind, function, name=name, model=case.model, **more):
            with _progress(f"{name}, {kind}") as progress:
                resume = folder / f"{name}-{kind}.json"
                return function(model, images, labels, resume=resume, progress=progress, **more)

        each[name] = found = study("each", analysis.delete_each)
        studies: list[Any] = [found]
        rows = zip(found.units, found.errors, found.changes_size, strict=True)
        write_csv(folder / f"{name}-deletions.csv", ("unit", "error_percent", "changes_size"), rows)
        studies.append(found := study("random", analysis.delete_random, **draws))
        rows = zip(found.deleted, found.errors, map(" ".join, found.units), strict=True)
        write_csv(folder / f"{name}-random_deletions.csv", ("deleted", "error_percent", "units"), rows)
        plots.draw_random_deletions(found, folder / f"{name}-random_deletions.png", name)
        if _can_reorder(case.model):
            studies.append(found := study("order", analysis.reorder, **draws))
            rows = zip(found.swaps, found.taus, found.errors, strict=True)
            write_csv(folder / f"{name}-reorderings.csv", ("swaps", "kendall_tau", "error_percent"), rows)
            plots.draw_reorderings(found, folder / f"{name}-reorderings.png", name)
        facts[name] = {
            "images": each[name].images,
            "intact_error": each[name].intact_error,
            "median_error": float(np.nanmedian(each[name].errors)),
            "largest_error": float(np.nanmax(each[name].errors)),
            "units_run": sum(found.units_run for found in studies),
            "units_run_plainly": sum(found.units_run_plainly for found in studies),
        }
    plots.draw_deletions(each, folder / "deletions.png")
    return facts


LESIONS_TEXT = """{name}: {intact_error:.2f} % of {images:,} images
  one unit less: median {median_error:.2f} %, at most {largest_error:.2f} %
  {units_run:,} units run per image; a network per lesion would be {units_run_plainly:,}"""


def _can_reorder(model):
    kept = [unit.stage for unit in analysis.dissect(model).units if not unit.changes_size]
    return len(set(kept)) < len(kept)


def _paths(cases, images, labels, folder, arguments):
    facts = {}
    for name, case in cases.items():
        with _progress(f"{name}, paths") as progress:
            study = analysis.path_gradients(
                case.model,
                images,
                labels,
                samples=arguments.draws,
                seed=arguments.seed,
                training=case.new,
                progress=progress,
            )
        lengths, means, totals = study.by_length()
        numbers = analysis.paths_by_length(study.units)
        rows = [(k, numbers[k], mean, total) for k, mean, total in zip(lengths, means, totals, strict=True)]
        write_csv(folder / f"{name}-paths.csv", ("length", "paths", "mean_gradient_norm", "paths_times_mean"), rows)
        plots.draw_paths(study, folder / f"{name}-paths.png", name)
        shortest, longest, share = study.effective_range()
        facts[name] = {
            "units": study.units,
            "decay": study.decay(),
            "shortest": shortest,
            "longest": longest,
            "share_of_paths": share,
        }
    return facts


PATHS_TEXT = """{name}: {units} units; each more on a path leaves {decay:.1%} of its gradient
  95 % of the gradient's magnitude: lengths {shortest} to {longest}, {share_of_paths:.2%} of the paths"""


def _cam(cases, images, labels, folder, arguments):
    facts = {}
    for name, case in cases.items():
        study = analysis.grad_cam(case.model, images)
        rows = zip(arguments.positions, labels, study.classes, study.scores, strict=True)
        write_csv(folder / f"{name}-cam.csv", ("image", "label", "class", "logit"), rows)
        np.save(folder / f"{name}-cam.npy", study.maps)
        plots.draw_grad_cam(study, images, folder / f"{name}-cam.png", arguments.class_names)
        facts[name] = {
            "images": len(images),
            "correct": int((study.classes == labels).sum()),
            "layer": study.layer,
            "size": list(study.maps.shape[1:]),
        }
    return facts


CAM_TEXT = "{name}: {correct} of {images} images correct; maps of {size[0]}x{size[1]} at {layer}"

STUDIES = {  # the function, what is printed, and on how many images without --images (None: all)
    "propagation": (_propagation, PROPAGATION_TEXT, 128),
    "lesions": (_lesions, LESIONS_TEXT, None),
    "paths": (_paths, PATHS_TEXT, 32),
    "cam": (_cam, CAM_TEXT, 12),
}


@contextlib.contextmanager
def _progress(title):
    """Shows a progress bar if the output is a terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)
