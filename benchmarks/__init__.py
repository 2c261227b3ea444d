"""Time, memory and file size of the networks beside stock Keras, keras.applications, PyTorch and ONNX Runtime."""
