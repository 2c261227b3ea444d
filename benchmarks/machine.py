"""The machine: what it is, and the floor that it sets to inference and training."""

import importlib.metadata
import os
import platform

PACKAGES = ("keras-resv2", "keras", "tensorflow", "jax", "torch", "onnxruntime", "numpy")


def versions(more=()):
    """Versions of Python and of the libraries that are installed, without importing them.

    Args:
        more: names of packages besides `PACKAGES`.

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
    """Programs that ran or wanted to run in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe():
    """Hardware and source commit. Imports Keras and its backend, so it is for workers.

    Returns:
        Dictionary: hardware, accelerator (None without), commit, cores, system.
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
    """Fewest seconds of a batch, by bytes moved and operations over the measured rates. For workers.

    Args:
        networks: list of dictionaries with name, depth and activation.
        precisions: list of "float32" and "bfloat16".
        batch_size: images.

    Returns:
        List of dictionaries: network, precision, measure ("infer" or "train"), operations, bytes,
        operations_per_second, bytes_per_second, seconds, images_per_second.
    """
    import keras_resv2
    from train.roofline import roofline

    rows = []
    for network in networks:
        model = keras_resv2.ResNet(network["depth"], activation=network["activation"])
        for precision in precisions:
            training = roofline(model, batch_size, precision)
            rows += [
                {"network": network["name"], "precision": precision, "measure": measure, **share}
                for measure, share in (("infer", _share(training, 3)), ("train", training))
            ]
    return [{**row, "images_per_second": batch_size / row["seconds"]} for row in rows]


def _share(training, parts):
    """Of a training step's three products per layer, inference has the first: a third of it all."""
    divided = {key: training[key] / parts for key in ("operations", "bytes", "seconds")}
    return {**training, **divided}
