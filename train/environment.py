"""What a figure depends on besides its settings: versions, source commit, machine."""

import os
import pathlib
import platform
import subprocess
import sys

import keras

import keras_resv2
from train.devices import ONE_DEVICE
from train.source_tree import archived_commit

SOURCE = pathlib.Path(__file__).resolve().parents[1]


def environment(devices=ONE_DEVICE):
    """Backend, versions, commit and hardware of a run.

    Args:
        devices: `train.devices.Devices`.

    Returns:
        Dictionary of text.
    """
    backend = keras.backend.backend()
    versions = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_resv2": keras_resv2.__version__,
        backend: sys.modules[backend].__version__,
    }
    return {"backend": backend, "versions": versions, "commit": commit(), "hardware": hardware(devices)}


def hardware(devices=ONE_DEVICE):
    """The accelerators in use, or the processor and the number of cores that may be used."""
    seen = accelerators()
    return f"{devices.count} x {seen[0]}" if seen else processor(len(usable_cores()))


def usable_cores():
    """Indices of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def processor(cores):
    """So many cores of the processor, as `hardware` names them."""
    return f"{cores} {'core' if cores == 1 else 'cores'} of {_processor()}"


def accelerators():
    """Names of the accelerators that Keras' backend sees, one for each; none on a processor alone."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(d).get("device_name", "GPU") for d in devices]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


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
        cpu_flags = set() if accelerators() else set(_cpuinfo().get("flags", "").split())
    if dtype == "float32" or not cpu_flags or cpu_flags & {"avx512f", "amx_bf16", "bf16"}:
        return None
    return (
        f"this processor has no bfloat16 instructions: {dtype} is emulated, over 10 times slower than float32 "
        "(ResNet-20 on 2 cores: 26 against 350 images/s). --dtype float32 is faster here."
    )


def _processor():
    facts = _cpuinfo()
    if not facts:
        return platform.processor() or platform.machine()
    bfloat16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return facts.get("model name", platform.machine()) + (f" ({', '.join(bfloat16)})" if bfloat16 else "")


def _cpuinfo():
    """What Linux says of the last processor, by key; empty where it does not."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


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
