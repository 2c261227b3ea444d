"""Training, evaluation and publishing; each command is a module, `python -m train.<command>`."""

import os
import signal
import sys

from keras_resv2.startup import around_import, prepare_streams, without_native_messages

# TensorFlow leaves oneDNN's kernels off on processors without AVX-512, where they train twice as fast (ResNet-20,
# float32, 2 cores of AVX2: 350 against 167 images/s). Read when TensorFlow is first imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

INTERRUPTED = 128 + signal.SIGINT


def _leave(number, frame):
    """Ends the program without a traceback; what is being written is removed on the way."""
    sys.exit(INTERRUPTED)


# Python has this name for a program while it looks for the module of `python -m`: from here on, through the seconds in
# which libraries load, Ctrl-C is no error. Commands that save first have handlers of their own later.
if sys.argv[:1] == ["-m"]:
    signal.signal(signal.SIGINT, _leave)
    prepare_streams()
    around_import("tensorflow", without_native_messages)
