"""Publishes a version of a run's weights: file, card, history and curve.

    python -m train.publish --run runs/resnet20-0 --data_dir cifar10.npz

The error on the card is measured here, on the weights in the file, in float32. An existing version is never
overwritten: the next one is created, or with --version the command fails.
"""

import os
import pathlib
import re
import shlex
import shutil
import statistics
import sys

from absl import app, flags

import train.evaluate
from keras_resv2.data import DATASETS, chance_error
from keras_resv2.files import atomic_write, check_file_name
from keras_resv2.pretrained import pretrained_card
from keras_resv2.storage.card import Card
from keras_resv2.storage.checksum import sha256
from keras_resv2.storage.local import CARD, verify_checksum
from keras_resv2.storage.weight_file import count_trainable, read_structure, read_weights, write_weights
from train.callbacks import draw_curve
from train.command import run as run_command
from train.evaluate import evaluate
from train.paper_tables.figures import paper_error
from train.run_files import (
    DIVERGED,
    HISTORY,
    WALL_SECONDS,
    WEIGHTS,
    completed_settings,
    differences,
    is_run,
    load_record,
    read_history,
    read_record,
    run_dataset,
    run_name,
    short_place,
    short_places,
    without_places,
)

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(train.evaluate)
flags.DEFINE_multi_string("seed_run", [], "Folder of a run of the same recipe with another seed; may be repeated.")
flags.DEFINE_string(
    "variant", None, "Added to the architecture's name if it has non-default arguments, such as 'gated'."
)
flags.DEFINE_integer("version", None, "Version of the weights; the next one by default.", lower_bound=1)
flags.DEFINE_bool(
    "half", False, "Round kernels to float16, which halves the size; the measured error is that of the file."
)
flags.DEFINE_string("weights_dir", "weights", "Folder of published weights.")
flags.DEFINE_string("url", None, "URL where the weight file will be available.")

HALF = "weights_half.h5"


def publish(run, data_dir, weights_dir, version=None, variant=None, seed_runs=(), url=None, half=False):
    """Writes ``<weights_dir>/<name>/<version>/``.

    Args:
        run: folder of a finished run.
        data_dir: location of the dataset, see `keras_resv2.data.load_split`. For a run on "arrays" the name of the file
            becomes the name of the dataset.
        weights_dir: folder of published weights.
        version: version number; None for the next one.
        variant: part of the name, required if the network has non-default arguments.
        seed_runs: folders of runs that differ only in the seed, and are finished or have diverged.
        url: URL where the weight file will be available.
        half: whether to round kernels to float16 before the error is measured.

    Returns:
        `Card`.

    Raises:
        FileExistsError: if the version is already published.
        FileNotFoundError: if a run is unfinished.
        ValueError: if a run was trained with uncommitted source, or does not match the others.
    """
    run, record = pathlib.Path(run), load_record(run)
    settings = completed_settings(record["settings"])
    dataset = run_dataset(settings)
    if dataset.streamed:
        kept = ", ".join(name for name, row in DATASETS.items() if not row.streamed)
        raise ValueError(f"{run} was trained on {dataset.name}; weights are published for {kept}.")
    label = _dataset_name(dataset, data_dir)
    _check_commits(run, record)
    if settings["arguments"] and not variant:
        raise ValueError(f"{run} has arguments {settings['arguments']}: pass --variant.")
    if variant and "@" in check_file_name(variant, "--variant"):
        raise ValueError(f"--variant {variant} must not contain an @, which separates a name and its version.")
    name = "_".join(filter(None, (settings["model"], variant))) + f"-{label}"
    folder = _new_version(pathlib.Path(weights_dir) / name, version)
    weights = _weight_file(run, half)
    measured = evaluate(run, data_dir, weights, full=True)
    seed_errors = {settings["seed"]: measured["test_error"]}
    for other in seed_runs:
        _add_seed(seed_errors, other, settings, data_dir, chance_error(dataset.classes))
    error, source = paper_error(settings["model"], settings["arguments"], label)
    card = Card(
        name=name,
        version=int(folder.name),
        architecture=settings["model"],
        arguments=_with_pixels(settings),
        parameters=count_trainable(read_weights(weights)),
        dataset=label,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        dataset_sha256=settings["dataset_sha256"],
        **measured,
        seed_errors={str(seed): error for seed, error in seed_errors.items()},
        median_error=round(statistics.median(seed_errors.values()), 2),
        paper_error=error,
        paper=source,
        recipe=settings["recipe"],
        recipe_values=without_places(record["settings"]["recipe_values"]),
        command=_without_places(record["command"]),
        seed=settings["seed"],
        steps=settings["recipe_values"]["steps"],
        wall_seconds=record[WALL_SECONDS],
        hardware=_over_environments(record, "hardware"),
        backend=_over_environments(record, "backend"),
        versions=record["environments"][-1]["versions"],
        commit=_over_environments(record, "commit"),
        train_images=settings["train_images"],
        initial_weights=_origin_of(settings.get("initial_weights")),
        size=weights.stat().st_size,
        sha256=sha256(weights),
        url=url,
    )
    _write(folder, run, weights, card)
    return card


def _dataset_name(dataset, data_dir):
    """Returns the name of the dataset for the card; for custom arrays the name of their file."""
    if dataset.name != "arrays":
        return dataset.name
    name = re.sub(r"[^a-z0-9]+", "_", pathlib.Path(data_dir or "").stem.lower()).strip("_")
    if not name or name in DATASETS:
        raise ValueError(f"--data_dir {data_dir} determines the name of the dataset, which is taken: rename the file.")
    return name


def _with_pixels(settings):
    """Returns the network's arguments for the card, with pixel statistics if they are not the stem's default."""
    of_stem = {name: value for name, value in settings.items() if name != "preprocessing"}
    if completed_settings(of_stem)["preprocessing"] == settings["preprocessing"]:
        return settings["arguments"]
    return {**settings["arguments"], "preprocessing": settings["preprocessing"]}


def _origin_of(initial_weights):
    """Describes initial weights for the card: those of a run by its command, of a folder or a file by their name."""
    if initial_weights is None or not os.path.exists(initial_weights):
        return initial_weights and short_place(initial_weights)
    if os.path.isfile(initial_weights):
        return pathlib.Path(initial_weights).name
    if not is_run(initial_weights):
        return pretrained_card(initial_weights).full_name
    record = load_record(initial_weights)
    return (
        f"run {run_name(initial_weights)}: {_without_places(record['command'])} (commit "
        f"{_over_environments(record, 'commit')}; test error {record['test_error_at_end']:.2f} %)"
    )


def _without_places(command):
    """Returns a command with runs in runs/ and files in the working directory, instead of their place here."""
    words = shlex.split(command)
    for i, word in enumerate(words):
        flag, _, value = word.partition("=") if words[i - 1] == "--set" else (words[i - 1], "", word)
        if flag in ("--initial_weights", "teacher"):
            words[i] = word.removesuffix(value) + (short_places if flag == "teacher" else short_place)(value)
    return shlex.join(words)


def _weight_file(run, half):
    """Returns the run's weight file, or a copy of half the size."""
    if not half:
        return run / WEIGHTS
    path = run / WEIGHTS
    write_weights(read_weights(path), run / HALF, half=True, structure=read_structure(path))
    return run / HALF


def _check_commits(run, record):
    for environment in record["environments"]:
        if environment["commit"] == "unknown" or environment["commit"].endswith("-dirty"):
            raise ValueError(
                f"{run} was trained with uncommitted source ({environment['commit']}): train from a clean checkout."
            )


def _over_environments(record, key):
    """Returns an entry of the run's environment; all of them in order if the run was resumed in others."""
    return ", then ".join(dict.fromkeys(environment[key] for environment in record["environments"]))


def _new_version(folder, version):
    published = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if version is None:
        version = max(published, default=0) + 1
    if version in published:
        raise FileExistsError(
            f"{folder / str(version)} is already published and a version never changes: omit --version."
        )
    return folder / str(version)


def _add_seed(errors, other, settings, data_dir, guessing):
    """Adds the error of a run that differs only in the seed; `guessing` if it diverged."""
    record = read_record(other)
    _check_commits(other, record)
    seed, differs = record["settings"]["seed"], differences(settings, record["settings"])
    if differs != ["seed"]:
        differs = ", ".join(differs) or "nothing, not even the seed"
        raise ValueError(f"{other} is not a run of the same settings with another seed: it differs in {differs}.")
    if seed in errors:
        raise ValueError(f"{other} is not a run of another seed: seed {seed} is already included.")
    errors[seed] = guessing if DIVERGED in record else evaluate(other, data_dir)["test_error"]


def _write(folder, run, weights, card):
    """Fills a folder next to the final one, then renames it, so that publishing is atomic."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as partial:
        partial.mkdir()
        shutil.copyfile(weights, partial / WEIGHTS)
        shutil.copyfile(run / HISTORY, partial / HISTORY)
        draw_curve(read_history(run / HISTORY), partial / "curve.png", f"{card.full_name}, {card.recipe}")
        verify_checksum(partial / WEIGHTS, card)
        (partial / CARD).write_text(card.to_json(), encoding="utf-8")
        if folder.exists():
            raise FileExistsError(f"{folder} was published in the meantime; a version never changes.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        card = publish(
            FLAGS.run,
            FLAGS.data_dir,
            FLAGS.weights_dir,
            FLAGS.version,
            FLAGS.variant,
            FLAGS.seed_run,
            FLAGS.url,
            FLAGS.half,
        )
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    print(f"{card.full_name}: test error {card.test_error:.2f} % (paper: {card.paper_error or '-'})")


if __name__ == "__main__":
    run_command(main)
