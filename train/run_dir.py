"""run.json: what a run is, where it was made, and how it ended."""

import contextlib
import json
import os
import pathlib

import filelock

from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.layouts import resolve_network
from train import checkpoint
from train.devices import ONE_DEVICE
from train.environment import environment
from train.recipes import completed

RUN_FILE, LOCK = "run.json", ".lock"
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000  # of CIFAR-10, which all runs had that did not write it
DIVERGED = "diverged_at"  # key of run.json: the step at which the loss was no longer a number


@contextlib.contextmanager
def file_lock(out, devices=ONE_DEVICE):
    """Context in which no other run writes to a folder.

    Args:
        out: folder of the run.
        devices: `train.devices.Devices`, the main process of which holds the lock.

    Raises:
        ValueError: another run is under way there.
        OSError: the folder cannot be written.
        ElsewhereError: that is so for the main process, which is another.
    """
    lock = filelock.FileLock(out / LOCK)
    with devices.sync_errors(ValueError, OSError):
        if devices.main:
            _acquire(lock, out)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock, out):
    try:
        with contextlib.suppress(NotImplementedError):  # this file system knows no locks
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            f"another process is training in {out}: wait for it, stop it, or choose another --out."
        ) from None


def start_record(out, settings, command, devices=ONE_DEVICE):
    """Writes run.json, or checks that the one there is of the same run.

    Args:
        out: folder of the run.
        settings: all that decides the result, as JSON.
        command: that trains it, as `train.config.RunConfig.command` gives it.
        devices: `train.devices.Devices`.

    Returns:
        The record, a dictionary: settings, command, environments (one for each place the run was
        resumed in).

    Raises:
        ValueError: the folder holds a run with other settings, or checkpoints of nobody knows what run.
    """
    path, here = out / RUN_FILE, environment(devices)
    if path.exists():
        record = read_record(out)
        changed = differences(settings, record["settings"])
        if changed:
            raise ValueError(f"{out} holds a run with other {', '.join(changed)}: choose another --out.")
        diverged = record.pop(DIVERGED, None)  # of a time before this one
        environments = record.setdefault("environments", [])
        elsewhere = "wall_seconds" not in record and environments[-1:] != [here]  # else it is finished
        if elsewhere:
            environments.append(here)
        if elsewhere or diverged:
            write_json(path, record)
        return record
    if checkpoint.any_in(out):
        raise ValueError(f"{out} holds checkpoints without {RUN_FILE}, which says of what run: choose another --out.")
    record = {"settings": settings, "command": command, "environments": [here]}
    write_json(path, record)
    return record


def completed_settings(settings):
    """Settings as run.json has them; what older runs did not write is what it was for all of them.

    Example:

    >>> completed_settings({"recipe_values": {}, "seed": 3})["test_images"]
    10000
    """
    older = {"train_images": TRAIN_IMAGES, "test_images": TEST_IMAGES}
    if "preprocessing" not in settings and settings.get("model") in ARCHITECTURES:
        older["preprocessing"] = _stem_pixels(settings)
    return {**older, **settings, "recipe_values": completed(settings.get("recipe_values", {}))}


def _stem_pixels(settings):
    """Pixel statistics of a network that nobody gave any: those of the dataset that its stem is made for."""
    row = ARCHITECTURES[settings["model"]]
    network = {"depth": row.depth, "activation": row.activation, **settings.get("arguments", {})}
    return [list(values) for values in resolve_network(**network)[0].pixels]


def pixels_of_older_run(out):
    """Pixel statistics of the run in a folder, if it began before datasets had statistics of their own; else None.

    Args:
        out: folder of a run, which need not exist; or None.

    Returns:
        ``(mean, std)``, or None.
    """
    if out is None or not (out / RUN_FILE).exists():
        return None
    settings = read_record(out)["settings"]
    if "preprocessing" in settings or settings.get("model") not in ARCHITECTURES:
        return None
    return tuple(map(tuple, _stem_pixels(settings)))


def differences(one, other):
    """Names of the settings in which two runs differ."""
    one, other = completed_settings(one), completed_settings(other)
    for settings in (one, other):
        settings["recipe_values"].pop("epochs", None)  # the steps are counted, whatever they were counted from
    return [key for key in one | other if one.get(key) != other.get(key)]


def read_record(run):
    """run.json of a run, finished or not.

    Args:
        run: its folder.

    Returns:
        The record, as `start_record` returns it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = pathlib.Path(run) / RUN_FILE
    if not path.exists():
        raise FileNotFoundError(f"{run} has no {RUN_FILE}: it is no finished run of train.train.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record["settings"], dict):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is damaged, so nobody knows what run it was: take another folder.")


def write_json(path, content):
    """Writes a JSON file whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)
