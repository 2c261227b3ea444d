"""The formats that networks are exported in: one table."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from keras_resv2.argument_checks import check_choice
from keras_resv2.exporting.inference_backends import OnnxRuntime, SavedModel, TFLite


@dataclasses.dataclass(frozen=True)
class Contents:
    """What an exported file contains.

    Attributes:
        network: functional `keras.Model` in float32, as `keras_resv2.exporting.network.plain_network` makes it.
        signature: `keras_resv2.exporting.signature.Signature` of the network.
        class_names: names of the classes in the order of the outputs; None if they are unknown.
        precision: of `keras_resv2.exporting.PRECISIONS`.
        representative: uint8 images to measure the ranges of activations on, for "int8"; else None.
        unit_switches: whether residual units can be switched off.
    """

    network: Any
    signature: Any
    class_names: Sequence[str] | None = None
    precision: str = "float32"
    representative: Any = None
    unit_switches: bool = False


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that networks are exported in. `FORMATS` lists them; add your own there.

    Attributes:
        write: function from `Contents` and a `pathlib.Path` that does not exist yet, which writes the file or folder.
        load: function from the path, as text, and a number of threads or None to an object whose `predict_on_batch`
            takes pixels as the network does and returns an array, or a dictionary of arrays for several outputs.
        ending: of the file's name; None for a folder.
        precisions: that it is written in, of `keras_resv2.exporting.PRECISIONS`.
        unit_switches: whether units can be switched off.
        check: function without arguments that raises ImportError if the format cannot be written here.
        can_load: function without arguments that says whether the inference backend is installed. If it is not, what
            was written is not compared with the network.
        labels: function from the path of the exported file to that of a text file beside it for the class names, one
            per line; None if the file contains them, or does not.
    """

    write: Callable[[Contents, pathlib.Path], None]
    load: Callable[[str, int | None], Any]
    ending: str | None
    precisions: tuple[str, ...] = ("float32",)
    unit_switches: bool = False
    check: Callable[[], None] = lambda: None
    can_load: Callable[[], bool] = lambda: True
    labels: Callable[[pathlib.Path], pathlib.Path] | None = None


# The writers import Keras, TensorFlow and ONNX, which the list of formats does not need.
def _write_saved_model(contents, path):
    from keras_resv2.exporting.tensorflow_formats import write_saved_model

    write_saved_model(contents.network, contents.signature, path, contents.class_names)


def _write_tflite(contents, path):
    from keras_resv2.exporting.tensorflow_formats import write_tflite

    write_tflite(contents.network, contents.signature, path, contents.precision, contents.representative)


def _write_onnx(contents, path):
    from keras_resv2.exporting.onnx_model import write_onnx

    write_onnx(
        contents.network, contents.signature, path, contents.class_names, contents.precision, contents.unit_switches
    )


def _check_tensorflow():
    from keras_resv2.exporting.tensorflow_formats import check_backend

    check_backend()


def _check_onnx():
    from keras_resv2.exporting.onnx_model import check_onnx

    check_onnx()


FORMATS: dict[str, Format] = {
    "saved_model": Format(_write_saved_model, SavedModel, ending=None, check=_check_tensorflow),
    "tflite": Format(
        _write_tflite,
        TFLite,
        ending=".tflite",
        precisions=("float32", "float16", "int8"),
        check=_check_tensorflow,
        labels=lambda path: path.with_name(path.name.removesuffix(".tflite") + ".labels.txt"),
    ),
    "onnx": Format(
        _write_onnx,
        OnnxRuntime,
        ending=".onnx",
        precisions=("float32", "float16"),
        unit_switches=True,
        check=_check_onnx,
        can_load=lambda: importlib.util.find_spec("onnxruntime") is not None,
    ),
}


def load_exported(path: str | pathlib.Path, format: str, threads: int | None = None) -> Any:
    """Opens an exported network in its own inference backend, without Keras.

    Args:
        path: of the file or folder that `keras_resv2.export` wrote.
        format: a key of `FORMATS`: "saved_model" (TensorFlow), "tflite" (LiteRT, or TensorFlow's interpreter) or
            "onnx" (ONNX Runtime).
        threads: number of threads that the backend may use; None for its default. TensorFlow has one number for the
            whole process: set it with `tf.config.threading` before.

    Returns:
        Object whose `predict_on_batch` takes pixels as the model does, uint8 ``(batch, height, width, channels)``, and
        returns what the network returns: an array, or a dictionary of arrays for several outputs.

    Raises:
        ValueError: if there is no such format.
        ImportError: if the backend is not installed.
        FileNotFoundError: if there is no such file.

    Example:

    >>> network = load_exported("resnet20.onnx", "onnx")  # doctest: +SKIP
    >>> network.predict_on_batch(pixels).shape  # doctest: +SKIP
    (8, 10)
    """
    check_choice("format", format, FORMATS)
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"exported network {path} does not exist.")
    return FORMATS[format].load(str(path), threads)
