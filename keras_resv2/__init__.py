"""keras-resv2: residual networks in Keras, with weights whose error was measured."""

__version__ = "0.1.0"
