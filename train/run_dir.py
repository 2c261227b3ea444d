"""The directory of a run: used by one process at a time, and always for the same run."""

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
    WALL_SECONDS,
    differences,
    read_record,
)


@contextlib.contextmanager
def file_lock(out, devices=ONE_DEVICE):
    """Context manager that prevents other runs from writing to a folder.

    Args:
        out: folder of the run.
        devices: `train.devices.Devices`, whose main process holds the lock.

    Raises:
        ValueError: if another run is using the folder.
        OSError: if the folder is not writable.
        ElsewhereError: if this happens in the main process and this is another one.
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
        with contextlib.suppress(NotImplementedError):  # the file system does not support locks
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            f"another process is training in {out}: wait for it, stop it, or choose another --out."
        ) from None


def start_record(out, settings, command, devices=ONE_DEVICE, seeds=1):
    """Writes run.json, or checks that an existing one belongs to the same run.

    Args:
        out: folder of the run.
        settings: everything that determines the result, JSON-serialisable.
        command: command of the run, see `train.config.RunConfig.command`.
        devices: `train.devices.Devices`.
        seeds: number of seeds trained in one program, each with its own record.

    Returns:
        The record, a dictionary: settings, command, environments (one for each environment that the run was resumed
        in).

    Raises:
        ValueError: if the folder contains a run with other settings, or checkpoints of an unknown run.
    """
    path, here = out / RUN_FILE, environment(devices)
    if seeds > 1:
        here["hardware"] += f", shared by {seeds} seeds in one program"
    if path.exists():
        record = read_record(out)
        changed = differences(settings, record["settings"])
        if changed:
            raise ValueError(f"{out} contains a run with different {', '.join(changed)}: choose another --out.")
        diverged = record.pop(DIVERGED, None)  # from a previous attempt
        environments = record.setdefault("environments", [])
        elsewhere = WALL_SECONDS not in record and environments[-1:] != [here]  # otherwise it is finished
        if elsewhere:
            environments.append(here)
        if elsewhere or diverged:
            write_json(path, record)
        return record
    if checkpoint.any_in(out):
        raise ValueError(f"{out} contains checkpoints of an unknown run, without {RUN_FILE}: choose another --out.")
    record = {"settings": settings, "command": command, "environments": [here]}
    write_json(path, record)
    return record
