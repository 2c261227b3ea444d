"""The environment of a run: versions, source commit, machine."""

import pathlib
import subprocess

import keras

from keras_resv2 import machine
from keras_resv2.machine import accelerators, processor, usable_cores
from keras_resv2.startup import print_stderr
from train.devices import ONE_DEVICE
from train.source_tree import archived_commit

__all__ = ["accelerators", "commit", "environment", "hardware", "processor", "slow_precision", "usable_cores"]

SOURCE = pathlib.Path(__file__).resolve().parents[1]


def environment(devices=ONE_DEVICE):
    """Returns backend, versions, commit and hardware of a run.

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
    """Describes the accelerators in use, or the processor and the number of usable cores."""
    return machine.hardware(devices.count)


def slow_precision(dtype, cpu_flags=None):
    """Returns a warning about a precision that this processor only emulates, or None.

    Args:
        dtype: dtype policy of a recipe.
        cpu_flags: features of the processor; None for those of this machine, if no accelerator is in use.

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
    """Returns the commit of the source, if known.

    Args:
        source: root of the checkout, or of a copy created by `git archive`.

    Returns:
        The first 12 digits of the commit; the suffix "-dirty" means that files differ from it. "unknown", with git's
        reason on standard error if it has one, for any other copy.
    """
    if not (source / ".git").exists():  # git would search parent folders and find an unrelated repository
        return archived_commit(source) or "unknown"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]  # without names of tags
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=source)
    except OSError:  # git is not installed
        return "unknown"
    if found.returncode != 0:  # such as a checkout of another user
        reason = (found.stderr.strip().splitlines() or ["git failed"])[0]
        print_stderr(f"warning: the commit is unknown, so this run cannot be published: {reason}")
    return found.stdout.strip() or "unknown"
