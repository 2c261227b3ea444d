"""Checkpoints of a run: everything that its next step depends on, written whole or not at all."""

import contextlib
import io
import json
import math
import pathlib
import shutil

import keras
import numpy as np

from keras_resv2.files import DiskFullError, atomic_write
from train.run_files import checkpoint_step, newest_checkpoints

KEEP = 2
ARRAYS = "arrays"  # how many the file holds: damage to its directory can hide some


def save(folder, step, variables, meta):
    """Writes the state after `step` steps and drops all but the newest checkpoints.

    Args:
        folder: of the run; the file is ``checkpoint-<step>.npz``.
        step: steps done.
        variables: list of Keras variables, in an order that a restart reproduces.
        meta: JSON-serialisable rest of the state.

    Raises:
        OSError: the disk is full; older checkpoints are kept.
    """
    folder = pathlib.Path(folder)
    arrays = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    meta = json.dumps({ARRAYS: len(arrays), **meta})
    for left in folder.glob("checkpoint*.part"):  # of a run that was killed: nobody else writes here
        left.unlink(missing_ok=True)
    try:
        with atomic_write(folder / f"checkpoint-{step:08d}.npz", sync=True) as partial, open(partial, "wb") as file:
            np.savez(file, meta=meta, **arrays)
    except DiskFullError:
        raise DiskFullError(
            f"no room on the disk of {folder} for the checkpoint of step {step}; the one before is kept. "
            "Make room, and the same command resumes."
        ) from None
    for old in newest_checkpoints(folder)[KEEP:]:
        old.unlink()


def check_room(folder, variables):
    """Raises OSError unless the disk has room for the checkpoints and the weights of a run."""
    to_write = KEEP + 2 - len(newest_checkpoints(folder))
    needed = to_write * sum(math.prod(v.shape) * np.dtype("float32").itemsize for v in variables)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder} has {free / 1e6:.0f} MB free; checkpoints and weights take {needed / 1e6:.0f} MB.")


def restore(folder, variables, step=None):
    """Sets `variables` from the newest checkpoint that can be read.

    Args:
        folder: of the run.
        variables: as given to `save`.
        step: of the only checkpoint that counts; None for any.

    Returns:
        `meta`, as given to `save`; None where there is no checkpoint.

    Raises:
        ValueError: the newest readable checkpoint is of another network.
        OSError, MemoryError: a checkpoint is there and cannot be read.
    """
    for path in newest_checkpoints(folder):
        if step is not None and checkpoint_step(path) != step:
            continue
        try:
            content = io.BytesIO(path.read_bytes())
        except FileNotFoundError:  # another process found it damaged, and was faster
            continue
        try:
            with np.load(content, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                arrays = [file[f"v{i}"] for i in range(meta.pop(ARRAYS, len(file.files) - 1))]
        except MemoryError:
            raise
        except Exception:  # of the many types that damage raises in NumPy and zipfile
            print(f"{path.name} is damaged; trying the one before", flush=True)
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_suffix(".damaged"))
            continue
        if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
            raise ValueError(f"{path} is a checkpoint of another network: choose another --out.")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return meta
    return None


def any_in(folder):
    """Whether a folder holds checkpoints."""
    return bool(newest_checkpoints(folder))
