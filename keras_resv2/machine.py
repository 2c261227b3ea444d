"""Describes the machine that results are measured on: accelerators or processor, backend, versions."""

import pathlib
import platform
import sys

import keras

import keras_resv2
from keras_resv2.startup import usable_cores


def versions() -> dict[str, str]:
    """Returns the versions of Python, Keras, this package and the backend, by name."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_resv2": keras_resv2.__version__,
        backend: sys.modules[backend].__version__,
    }


def hardware(devices: int = 1) -> str:
    """Describes the accelerators in use, or the processor and the number of usable cores.

    Args:
        devices: number of accelerators.
    """
    seen = accelerators()
    return f"{devices} x {seen[0]}" if seen else processor(len(usable_cores()))


def processor(cores: int) -> str:
    """Describes a number of cores of the processor, as in `hardware`."""
    return f"{cores} {'core' if cores == 1 else 'cores'} of {_processor()}"


def accelerators() -> list[str]:
    """Returns the names of the accelerators visible to the Keras backend; empty on a CPU-only machine."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(d).get("device_name", "GPU") for d in devices]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import torch

    if torch.backends.mps.is_available():  # Apple's, which Keras uses if there is one
        return [f"{platform.machine()} GPU (MPS)"]
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _processor():
    facts = cpuinfo()
    if not facts:
        return platform.processor() or platform.machine()
    bfloat16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return facts.get("model name", platform.machine()) + (f" ({', '.join(bfloat16)})" if bfloat16 else "")


def cpuinfo() -> dict[str, str]:
    """Returns the entries of /proc/cpuinfo for the last processor; empty if it is not available."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
