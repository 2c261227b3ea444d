"""Describes the machine, and computes the floor of inference and training on it."""

import importlib.metadata
import os
import platform

PACKAGES = ("keras-resv2", "keras", "tensorflow", "jax", "torch", "onnxruntime", "numpy")


def versions(more=()):
    """Returns the versions of Python and of installed libraries, without importing them.

    Args:
        more: names of packages in addition to `PACKAGES`.

    Returns:
        Dictionary from name to version.
    """
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_average():
    """Returns the load average of the last minute; None if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe():
    """Returns hardware and source commit. Imports Keras and its backend, so it must run in a worker.

    Returns:
        Dictionary: hardware, accelerator (or None), commit, cores, system.
    """
    from train.environment import accelerators, environment

    here = environment()
    return {
        "hardware": here["hardware"],
        "accelerator": next(iter(accelerators()), None),
        "commit": here["commit"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def floors(networks, precisions, batch_size):
    """Computes lower bounds of the time of a batch from bytes, operations and measured rates, in a worker.

    Args:
        networks: list of dictionaries with name and arguments of `keras_resv2.ResNet`.
        precisions: list of "float32" and "bfloat16".
        batch_size: images per batch.

    Returns:
        List of dictionaries: network, precision, measure ("infer" or "train"), operations, bytes,
        operations_per_second, bytes_per_second, seconds, images_per_second.
    """
    import keras_resv2
    from train.roofline import roofline

    rows = []
    for network in networks:
        model = keras_resv2.ResNet(**network["arguments"])
        for precision in precisions:
            training = roofline(model, batch_size, precision)
            rows += [
                {"network": network["name"], "precision": precision, "measure": measure, **share}
                for measure, share in (("infer", _share(training, 3)), ("train", training))
            ]
    return [{**row, "images_per_second": batch_size / row["seconds"]} for row in rows]


def _share(training, parts):
    """Returns the fraction of inference in a training step: the first of three products per layer, a third."""
    divided = {key: training[key] / parts for key in ("operations", "bytes", "seconds")}
    return {**training, **divided}
