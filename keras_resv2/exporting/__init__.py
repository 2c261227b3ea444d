"""Leaving Keras: a network as SavedModel, TFLite or ONNX, which runs without this package.

All forms take pixels as the model takes them, uint8 ``(batch, height, width, 3)``, any number at a time, and
give float32 probabilities. `keras_resv2.export` writes them, `keras-resv2 export` from the command line.

- `exporter`: `keras_resv2.export`. `formats`: the table of formats, and `load_exported`.
- `network`: the network that is written: float32, without loops. `unit_switches`: units that can be switched off.
- `signature`: names, shapes and types of inputs and outputs.
- `tensorflow_formats`, `onnx_model`, `onnx_layers`: writing them.
- `inference_backends`: an exported network without Keras.
"""

INPUT = "pixels"  # its name in every format
PRECISIONS = ("float32", "float16", "int8")
