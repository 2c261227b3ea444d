"""Runs exported networks in their own runtimes, as documented by each."""

import numpy as np

from keras_resv2.exporting.inference_backends import without_deprecation


def run_saved_model(path, pixels):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return {name: y.numpy() for name, y in loaded.signatures["serving_default"](pixels=tf.constant(pixels)).items()}


def open_tflite(path):
    import tensorflow as tf

    with without_deprecation():
        return tf.lite.Interpreter(str(path))


def run_tflite(path, pixels):
    return open_tflite(path).get_signature_runner("serving_default")(pixels=pixels)


def run_onnx(path, pixels):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


RUN = {"saved_model": run_saved_model, "tflite": run_tflite, "onnx": run_onnx}


def assert_same(found, expected, within=1e-4):
    """Asserts that outputs agree with those of Keras, relative to the largest, and differ between images."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == "float32" and found.shape == expected.shape
    assert np.ptp(expected, axis=0).max() > 100 * within, "the images make no difference"
    np.testing.assert_allclose(found, expected, atol=within * max(1.0, np.abs(expected).max()), rtol=0)
