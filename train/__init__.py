"""Training, evaluation and publishing. Each command is a module: `python -m train.<command>`."""

import os
import signal
import sys

from keras_resv2.startup import around_import, prepare_streams, without_native_messages

# TensorFlow disables oneDNN kernels on processors without AVX-512, although they train twice as fast there (ResNet-20,
# float32, 2 cores with AVX2: 350 instead of 167 images/s). Read when TensorFlow is first imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

INTERRUPTED = 128 + signal.SIGINT


def _leave(number, frame):
    """Exits without a traceback; partially written files are removed."""
    sys.exit(INTERRUPTED)


# Python uses this name while it looks for the module of `python -m`: from here on, while libraries load, Ctrl-C exits
# quietly. `train.command.run` and commands that save first install other handlers later.
if sys.argv[:1] == ["-m"]:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, _leave)
    prepare_streams()
    around_import("tensorflow", without_native_messages)
