"""Exported networks in their own inference backends, without Keras."""

import contextlib
import warnings
from collections.abc import Iterator

from keras_resv2.exporting import INPUT


@contextlib.contextmanager
def without_deprecation() -> Iterator[None]:
    """Leaves out the warning that TensorFlow's interpreter will be LiteRT's: it is where that is installed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated")
        yield


class SavedModel:
    """A SavedModel in TensorFlow."""

    def __init__(self, path, threads):
        import tensorflow as tf

        self._loaded = tf.saved_model.load(path)  # kept: it owns the variables of its signatures
        self._serve, self._constant = self._loaded.signatures["serving_default"], tf.constant

    def predict_on_batch(self, pixels):
        return _single({name: y.numpy() for name, y in self._serve(**{INPUT: self._constant(pixels)}).items()})


class TFLite:
    """A TFLite file in LiteRT, or in TensorFlow's interpreter."""

    def __init__(self, path, threads):
        with without_deprecation():
            self._interpreter = _tflite_interpreter()(path, num_threads=threads)
        self._run = self._interpreter.get_signature_runner("serving_default")

    def predict_on_batch(self, pixels):
        return _single(self._run(**{INPUT: pixels}))


def _tflite_interpreter():
    """LiteRT's where it is installed; TensorFlow's own is the same code, and about to leave it."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter
    return Interpreter


class OnnxRuntime:
    """An ONNX file in ONNX Runtime, on the processor."""

    def __init__(self, path, threads):
        try:
            import onnxruntime
        except ImportError:
            raise ImportError("running an ONNX file needs ONNX Runtime: pip install onnxruntime.") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def predict_on_batch(self, pixels):
        return _single(dict(zip(self._names, self._session.run(None, {INPUT: pixels}), strict=True)))


def _single(outputs):
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))
