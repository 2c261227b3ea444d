"""Checkpoints of a run: everything that its next step depends on, written atomically."""

import contextlib
import io
import json
import math
import pathlib
import shutil
import zipfile
import zlib

import keras
import numpy as np

from keras_resv2.files import DiskFullError, atomic_write
from train.run_files import checkpoint_step, newest_checkpoints

KEEP = 2
ARRAYS = "arrays"  # number of arrays in the file: a damaged directory can hide some


def save(folder, step, variables, meta):
    """Writes the state after `step` steps and deletes all but the newest checkpoints.

    Args:
        folder: folder of the run; the file is ``checkpoint-<step>.npz``.
        step: number of completed steps.
        variables: list of Keras variables, in an order that is reproducible after a restart.
        meta: the rest of the state, JSON-serialisable.

    Raises:
        OSError: if the disk is full; older checkpoints are kept.
    """
    folder = pathlib.Path(folder)
    arrays = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    meta = json.dumps({ARRAYS: len(arrays), **meta})
    for left in folder.glob("checkpoint*.part"):  # left by a run that was killed: no other process writes here
        left.unlink(missing_ok=True)
    try:
        with atomic_write(folder / f"checkpoint-{step:08d}.npz", sync=True) as partial, open(partial, "wb") as file:
            np.savez(file, meta=meta, **arrays)
    except DiskFullError:
        raise DiskFullError(
            f"the disk of {folder} is full: the checkpoint of step {step} was not written; the one before is kept. "
            "Free some space and run the same command to resume."
        ) from None
    for old in newest_checkpoints(folder)[KEEP:]:
        old.unlink()


def check_room(folder, variables):
    """Raises OSError unless the disk has space for the checkpoints and the weights of a run."""
    to_write = KEEP + 2 - len(newest_checkpoints(folder))
    needed = to_write * sum(math.prod(v.shape) * np.dtype("float32").itemsize for v in variables)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder} has {free / 1e6:.0f} MB free, but checkpoints and weights need {needed / 1e6:.0f} MB.")


def restore(folder, variables, step=None, others=False):
    """Restores `variables` from the newest readable checkpoint.

    Args:
        folder: folder of the run.
        variables: the variables passed to `save`.
        step: step of the checkpoint to restore; None for any.
        others: whether `variables` may be only the first ones passed to `save`.

    Returns:
        `meta` passed to `save`; None if there is no checkpoint.

    Raises:
        ValueError: if the newest readable checkpoint belongs to another network.
        OSError, MemoryError: if a checkpoint exists but cannot be read.
    """
    for path in newest_checkpoints(folder):
        if step is not None and checkpoint_step(path) != step:
            continue
        try:
            content = io.BytesIO(path.read_bytes())
        except FileNotFoundError:  # another process found it damaged and removed it
            continue
        try:
            with np.load(content, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                arrays = [file[f"v{i}"] for i in range(meta.pop(ARRAYS, len(file.files) - 1))]
        except MemoryError:
            raise
        except Exception:  # damaged files raise many types in NumPy and zipfile
            print(f"{path.name} is damaged; trying the previous one", flush=True)
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_suffix(".damaged"))
            continue
        if others:
            arrays = arrays[: len(variables)]
        if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
            raise ValueError(f"{path} is a checkpoint of another network: choose another --out.")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return meta
    return None


def is_intact(path):
    """Returns whether a checkpoint is complete and undamaged."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def any_in(folder):
    """Returns whether a folder contains checkpoints."""
    return bool(newest_checkpoints(folder))
