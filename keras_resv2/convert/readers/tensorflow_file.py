"""Reads arrays of TensorFlow checkpoints and SavedModels; no graph is loaded or executed."""

import math
import os
import pathlib

import numpy as np

from keras_resv2.argument_checks import first_line
from keras_resv2.files import check_regular, read_limit

INDEX, SAVED_MODEL, OBJECTS = ".index", "saved_model.pb", "_CHECKPOINTABLE_OBJECT_GRAPH"


def find_checkpoint(path):
    """Returns the prefix of the checkpoint files of a path; None for other paths.

    Args:
        path: folder of a SavedModel, the prefix of a checkpoint (as ``ckpt-1``), or its ``.index`` file.
    """
    path = pathlib.Path(path)
    if path.is_dir() and (path / SAVED_MODEL).is_file():
        return path / "variables" / "variables"
    if path.suffix == INDEX:
        path = path.with_suffix("")
    return path if not path.exists() and pathlib.Path(f"{path}{INDEX}").is_file() else None


def read_checkpoint(prefix, label):
    """Reads arrays by the names of their variables in the model, ``<layer>/<variable>``.

    Args:
        prefix: of the checkpoint's files.
        label: what to call it in a message.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: if it is damaged, or does not name its variables.
    """
    try:
        import tensorflow as tf
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
    except ImportError:
        raise ImportError(f"reading {label} requires TensorFlow: pip install tensorflow.") from None
    files = [prefix.parent / name for name in os.listdir(prefix.parent) if name.startswith(f"{prefix.name}.")]
    limit = read_limit(sum(map(check_regular, files)))
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        graph = TrackableObjectGraph.FromString(reader.get_tensor(OBJECTS)) if OBJECTS in shapes else None
        keys = {a.full_name: a.checkpoint_key for node in graph.nodes for a in node.attributes} if graph else {}
        keys = {name: key for name, key in keys.items() if name and key in shapes}
        if sum(math.prod(shapes[key]) * np.dtype("float32").itemsize for key in keys.values()) > limit:
            raise ValueError("it declares more tensors than a file of its size has")
        arrays = {name: reader.get_tensor(key) for name, key in keys.items()}
    except Exception as error:  # TensorFlow raises errors of its own, and protocol buffers of theirs
        raise ValueError(f"{label} is damaged or no checkpoint of TensorFlow: {first_line(error)}") from None
    arrays = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    if not arrays:
        raise ValueError(f"{label} does not name its variables: load it into the model, and give that.")
    return arrays
