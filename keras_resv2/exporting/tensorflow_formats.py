"""SavedModel and TFLite, by TensorFlow."""

import pathlib
import re
import tempfile
from typing import Any

import keras
import numpy as np

from keras_resv2.argument_checks import first_line, some
from keras_resv2.exporting import INPUT
from keras_resv2.exporting.inference_backends import without_deprecation
from keras_resv2.exporting.signature import by_name, named_outputs
from keras_resv2.files import write_lines
from keras_resv2.models.batch_norm import to_stock_layers

SIGNATURE = "serving_default"
FLOAT_OPERATORS = ("FULLY_CONNECTED", "SOFTMAX", "LOGISTIC")  # of int8 files
LABELS = pathlib.Path("assets.extra", "labels.txt")  # SavedModel's place for what TensorFlow does not read


def check_backend() -> None:
    """Raises ImportError unless Keras computes with TensorFlow, whose graphs these formats hold."""
    if keras.backend.backend() != "tensorflow":
        raise ImportError(
            f"SavedModel and TFLite are written by TensorFlow, and Keras runs on {keras.backend.backend()} here: set "
            "KERAS_BACKEND=tensorflow and load the weight file there. ONNX is written on every backend."
        )


def write_saved_model(network, signature, folder, class_names=None):
    """Writes a network as a SavedModel with the signature ``serving_default``.

    Args:
        network: functional `keras.Model`, float32, as `keras_resv2.exporting.network` makes it.
        signature: its `Signature`.
        folder: to write into; it may exist, empty.
        class_names: list of text, written to ``assets.extra/labels.txt``, one a line.
    """
    _save(network, signature.shape, signature.dtype, folder)
    if class_names:
        path = pathlib.Path(folder, LABELS)
        path.parent.mkdir()
        write_lines(class_names, path)


def _save(network, shape, dtype, folder):
    import tensorflow as tf

    # TensorFlow fuses the kernel of our batch normalization with the ReLU behind it into one that other programs,
    # such as TensorFlow.js' converter, do not know; Keras' own layer is a product and a sum.
    network = to_stock_layers(network)
    names = list(named_outputs(network))

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, name=INPUT)])
    def serve(pixels):
        return by_name(names, network(tf.cast(pixels, "float32"), training=False))

    module = tf.Module()
    module.network_variables = [variable.value for variable in network.variables]
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: serve})


def write_tflite(network, signature, path, precision, representative: Any = None):
    """Writes a network as a TFLite file with the signature ``serving_default``.

    Args:
        network: functional `keras.Model`, float32, as `keras_resv2.exporting.network` makes it.
        signature: its `Signature`.
        path: of the file.
        precision: "float32"; "float16": weights, computed in float32 where the device has no better; or
            "int8": weights and activations, from uint8 pixels to what the classifier reads. Dense layers and
            softmax compute in float32: in int8 the best two of many classes would often be equal.
        representative: for int8, uint8 images that show the range of all activations.

    Raises:
        ValueError: TFLite has no operators for a layer.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    with tempfile.TemporaryDirectory() as folder:
        dtype = "float32" if precision == "int8" else signature.dtype
        _save(network, signature.shape, dtype, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            images = _with_black_and_white(representative)
            converter.representative_dataset = lambda: ({INPUT: image[None].astype("float32")} for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        try:
            with without_deprecation():
                content = _quantized(converter) if precision == "int8" else converter.convert()
        except ConverterError as error:
            missing = sorted(set(re.findall(r"'(tf\.\w+)' op", str(error)))) or [first_line(error)]
            raise ValueError(
                f"TFLite cannot represent model {network.name!r}: {some(missing)}. Replace these layers, or choose "
                "another format."
            ) from None
    pathlib.Path(path).write_bytes(content)


def _quantized(converter):
    """A TFLite file of integers but for the operators in `FLOAT_OPERATORS`; takes uint8."""
    import tensorflow as tf
    from tensorflow.lite.python.util import modify_model_io_type

    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT_OPERATORS))
    quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
    return bytes(modify_model_io_type(quantizer.get_nondebug_quantized_model(), tf.uint8, tf.float32))


def _with_black_and_white(images):
    """The images with two pixels set, so that the input's range is 0 to 255 and uint8 pixels stand for themselves."""
    if images.min() == 0 and images.max() == 255:
        return images
    images = np.array(images, order="C")  # of which `reshape` is a view
    images.reshape(len(images), -1)[0, :2] = 0, 255
    return images
