"""Reads the files of a run's directory without Keras: run.json, history.csv and the state of checkpoints."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import zipfile

import numpy as np

from keras_resv2.architectures import find_architecture, is_architecture
from keras_resv2.argument_checks import some
from keras_resv2.data.registry import find_dataset
from keras_resv2.models.config import resolve_network
from train.recipe import completed, split_names

RUN_FILE, LOCK, HISTORY, WEIGHTS = "run.json", ".lock", "history.csv", "weights.h5"
CHECKPOINTS = "checkpoint-*.npz"
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000  # of CIFAR-10, the dataset of all runs that did not record it
DIVERGED = "diverged_at"  # key of run.json: the step at which the loss became NaN or infinite
WALL_SECONDS = "wall_seconds"  # key of run.json: the duration of a finished run


def is_run(place):
    """Returns whether a path is the directory of a run."""
    return (pathlib.Path(place) / RUN_FILE).exists()


def short_place(place):
    """Returns a run, weight folder or weight file without its place on this machine; other names are unchanged.

    Example:

    >>> short_place("/home/me/runs/one"), short_place("/tmp/mine/2"), short_place("w/a.h5"), short_place("x@1")
    ('runs/one', 'mine/2', 'a.h5', 'x@1')
    >>> short_place("/home/me/runs/one/seed0")
    'runs/one/seed0'
    """
    if os.sep not in place or "://" in place:
        return place
    path = pathlib.PurePath(place)
    if path.name.isdigit():
        return "/".join(path.parts[-2:])
    return path.name if path.suffix == ".h5" else f"runs/{run_name(path)}"


def run_name(place):
    """Returns the name of a run: that of its directory, and for one of several seeds also that of the parent.

    Example:

    >>> run_name("/home/me/runs/one"), run_name("/home/me/runs/one/seed0")
    ('one', 'one/seed0')
    """
    parts = pathlib.PurePath(place).parts
    return "/".join(parts[-2 if re.fullmatch(r"seed\d+", parts[-1]) else -1 :])


def without_places(values):
    """Returns recipe values whose teachers are named without their place on this machine."""
    return {**values, "teacher": short_places(values["teacher"])} if values.get("teacher") else values


def short_places(names):
    """Returns names separated by commas as `short_place` returns each."""
    return ",".join(map(short_place, split_names(names)))


def kept_version(given, recorded):
    """Returns the recorded name of pretrained weights, with its version, if `given` is the same name without one.

    A run keeps its weights when a newer version is published. Both may be several names, separated by commas.
    """
    if not (isinstance(recorded, str) and isinstance(given, str)):
        return None
    names, kept = split_names(given), split_names(recorded)
    if len(names) != len(kept):
        return None
    same = all(new in (old, old.rpartition("@")[0]) for new, old in zip(names, kept, strict=True))
    return recorded if same else None


def newest_checkpoints(run):
    """Returns the paths of a run's checkpoints, newest first.

    Args:
        run: directory of the run.
    """
    return sorted(pathlib.Path(run).glob(CHECKPOINTS), reverse=True)


def newest_step(paths):
    """Returns the highest step of checkpoints, by their names; -1 without any.

    Example:

    >>> newest_step(["checkpoint-00000150.npz", "checkpoint-00000300.npz"]), newest_step([])
    (300, -1)
    """
    return max(map(checkpoint_step, paths), default=-1)


def checkpoint_step(path):
    """Returns the step of a checkpoint from its name.

    Example:

    >>> checkpoint_step("runs/a/checkpoint-00000150.npz")
    150
    """
    return int(pathlib.Path(path).stem.removeprefix("checkpoint-"))


def read_checkpoint_meta(path):
    """Reads the metadata of a checkpoint without its arrays.

    Args:
        path: path of the file.

    Returns:
        Dictionary with the fields of `train.run_state.Progress`: step, history, seconds and more; None if the file is
        damaged or was just removed.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return meta if isinstance(meta, dict) and "step" in meta else None


def read_history(path):
    """Reads the rows of a history.csv, see `train.run_state.Progress`."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def completed_settings(settings):
    """Completes the settings of run.json with values that older runs did not record.

    Example:

    >>> completed_settings({"recipe_values": {}, "seed": 3})["test_images"]
    10000
    """
    older = {"train_images": TRAIN_IMAGES, "test_images": TEST_IMAGES}
    if "preprocessing" not in settings and is_architecture(settings.get("model")):
        older["preprocessing"] = _stem_pixels(settings)
    return {**older, **settings, "recipe_values": completed(settings.get("recipe_values", {}))}


def _stem_pixels(settings):
    """Returns the default pixel statistics of a network: those of the dataset that its stem is designed for."""
    network = find_architecture(settings["model"]).arguments(**settings.get("arguments", {}))
    return [list(values) for values in resolve_network(**network)[0].pixels]


def pixels_of_older_run(out):
    """Returns the pixel statistics of a run that started before datasets had their own statistics, else None.

    Args:
        out: folder of a run, which need not exist; or None.

    Returns:
        ``(mean, std)``, or None.
    """
    if out is None or not (out / RUN_FILE).exists():
        return None
    settings = read_record(out)["settings"]
    if "preprocessing" in settings or not is_architecture(settings.get("model")):
        return None
    return tuple(map(tuple, _stem_pixels(settings)))


def differences(one, other):
    """Returns the names of settings that differ between two runs."""
    one, other = completed_settings(one), completed_settings(other)
    for settings in (one, other):
        settings["recipe_values"].pop("epochs", None)  # only the number of steps matters
    return [key for key in one | other if one.get(key) != other.get(key)]


def read_record(run):
    """Reads the run.json of a run, finished or not.

    Args:
        run: folder of the run.

    Returns:
        The record, see `start_record`.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged.
    """
    path = pathlib.Path(run) / RUN_FILE
    if not path.exists():
        raise FileNotFoundError(f"{run} has no {RUN_FILE}: it is not a finished run of train.train.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record["settings"], dict):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is damaged, so the run is unknown: use another folder.")


def load_record(run):
    """Reads the run.json of a finished run.

    Raises:
        FileNotFoundError: if the run is not finished.
        ValueError: if it is damaged.
    """
    run = pathlib.Path(run)
    found = read_record(run)
    for name in (WEIGHTS, HISTORY):
        if not (run / name).exists():
            raise FileNotFoundError(f"{run} has no {name}: it is not a finished run of train.train.")
    if WALL_SECONDS not in found:
        raise FileNotFoundError(f"{run} is not a finished run: run its command again to finish it.")
    return found


def run_dataset(settings):
    """Returns the dataset of a run: its row in the registry, completed with properties recorded when the run started.

    Args:
        settings: settings of run.json.

    Returns:
        `keras_resv2.data.Dataset`.

    Raises:
        ValueError: if there is no such dataset.
    """
    row = find_dataset(settings["dataset"])
    said = {name: tuple(settings[name]) for name in ("class_names", "image_shape") if name in settings}
    return dataclasses.replace(row, **said)


def check_teacher(name, data, spellings, image_shape):
    """Checks that a teacher has the classes and the image size of a run.

    Args:
        name: name of the teacher, for the message.
        data: object with the `class_names` and `image_shape` of the run: `train.data.inputs.Input`, or a dataset of the
            registry, whose class names or image shape may be None.
        spellings: the teacher's class names, one tuple for each spelling.
        image_shape: ``(height, width, 3)`` of the teacher.

    Raises:
        ValueError: if they differ.
    """
    if data.class_names and tuple(data.class_names) not in spellings:
        classes = spellings[0]
        raise ValueError(
            f"teacher {name} has {len(classes)} classes ({some(classes)}), but the run has {len(data.class_names)} "
            f"({some(data.class_names)}): they must be the same, in the same order."
        )
    if data.image_shape and None not in data.image_shape and image_shape != tuple(data.image_shape):
        theirs, ours = (" x ".join(map(str, shape[:2])) for shape in (image_shape, data.image_shape))
        raise ValueError(f"teacher {name} expects images of {theirs} pixels, but the run has {ours}.")
