"""What a figure depends on besides its settings: versions, source commit, machine."""

import pathlib
import subprocess

import keras

from keras_resv2 import machine
from keras_resv2.machine import accelerators, processor, usable_cores
from train.devices import ONE_DEVICE
from train.source_tree import archived_commit

__all__ = ["accelerators", "commit", "environment", "hardware", "processor", "slow_precision", "usable_cores"]

SOURCE = pathlib.Path(__file__).resolve().parents[1]


def environment(devices=ONE_DEVICE):
    """Backend, versions, commit and hardware of a run.

    Args:
        devices: `train.devices.Devices`.

    Returns:
        Dictionary of text.
    """
    return {
        "backend": keras.backend.backend(),
        "versions": machine.versions(),
        "commit": commit(),
        "hardware": hardware(devices),
    }


def hardware(devices=ONE_DEVICE):
    """The accelerators in use, or the processor and the number of cores that may be used."""
    return machine.hardware(devices.count)


def slow_precision(dtype, cpu_flags=None):
    """A line that warns of a precision that this processor can only emulate; None where there is nothing to say.

    Args:
        dtype: of a recipe.
        cpu_flags: features of the processor; None for those of this one, where no accelerator is in use.

    Example:

    >>> slow_precision("float32", {"avx2"}) is None
    True
    >>> slow_precision("mixed_bfloat16", {"avx2"})[:42]
    'this processor has no bfloat16 instruction'
    """
    if cpu_flags is None:
        cpu_flags = set() if accelerators() else set(machine.cpuinfo().get("flags", "").split())
    if dtype == "float32" or not cpu_flags or cpu_flags & {"avx512f", "amx_bf16", "bf16"}:
        return None
    return (
        f"this processor has no bfloat16 instructions: {dtype} is emulated, over 10 times slower than float32 "
        "(ResNet-20 on 2 cores: 26 against 350 images/s). --dtype float32 is faster here."
    )


def commit(source=SOURCE):
    """The commit of the source, as far as it can be known.

    Args:
        source: root of the checkout, or of a copy made by `git archive`.

    Returns:
        As `git describe --always --dirty` names it: "-dirty" at the end means that files differ from the
        commit. "unknown" for a copy of another kind, or where git is not installed.
    """
    if not (source / ".git").exists():  # git would look for one further up, which is of something else
        return archived_commit(source) or "unknown"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=source)
    except OSError:  # git is not installed
        return "unknown"
    return found.stdout.strip() or "unknown"
