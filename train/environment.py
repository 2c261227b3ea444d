"""What a figure depends on besides its settings: versions, source commit, machine."""

import os
import pathlib
import platform
import subprocess
import sys

import keras

import keras_resv2
from train.devices import ONE_DEVICE

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
    return {"backend": backend, "versions": versions, "commit": _commit(), "hardware": hardware(devices)}


def hardware(devices=ONE_DEVICE):
    """The accelerators in use, or the processor and the number of cores that may be used."""
    seen = accelerators()
    if seen:
        return f"{devices.count} x {seen[0]}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {_processor()}"


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


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    bfloat16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return facts.get("model name", platform.machine()) + (f" ({', '.join(bfloat16)})" if bfloat16 else "")


def _commit():
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE)
    except OSError:  # git is not installed
        return "unknown"
    return found.stdout.strip() or "unknown"
