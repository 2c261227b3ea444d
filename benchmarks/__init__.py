"""Benchmarks of time, memory and file size against stock Keras, keras.applications, PyTorch and ONNX Runtime."""
