"""The directory of a run: one process at a time, one run for good."""

import contextlib

import filelock

from keras_resv2.files import write_json
from train import checkpoint
from train.devices import ONE_DEVICE
from train.environment import environment
from train.run_files import (
    DIVERGED,
    LOCK,
    RUN_FILE,
    differences,
    read_record,
)


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


def start_record(out, settings, command, devices=ONE_DEVICE, seeds=1):
    """Writes run.json, or checks that the one there is of the same run.

    Args:
        out: folder of the run.
        settings: all that decides the result, as JSON.
        command: that trains it, as `train.config.RunConfig.command` gives it.
        devices: `train.devices.Devices`.
        seeds: how many are trained in one program; each has a record.

    Returns:
        The record, a dictionary: settings, command, environments (one for each place the run was
        resumed in).

    Raises:
        ValueError: the folder holds a run with other settings, or checkpoints of nobody knows what run.
    """
    path, here = out / RUN_FILE, environment(devices)
    if seeds > 1:
        here["hardware"] += f", shared by {seeds} seeds in one program"
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
