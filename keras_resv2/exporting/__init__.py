"""Leaving Keras: a network as SavedModel, TFLite or ONNX, which runs without this package.

All forms take pixels as the model takes them, uint8 ``(batch, height, width, 3)``, any number at a time, and
give float32 probabilities. `keras_resv2.export` writes them, `keras-resv2 export` from the command line.

- `network`: the network that is written: float32, without loops, folded.
- `interface`: what goes in and comes out, under which names.
- `tensorflow_files`, `onnx_file`: the formats.
- `runtimes`: an exported network in its own runtime.
"""

FORMATS = ("saved_model", "tflite", "onnx")
INPUT = "pixels"  # its name in every format
PRECISIONS = ("float32", "float16", "int8")
