"""The process that runs one exported network. It reads commands as JSON lines from stdin and answers on stdout.

open FORM PATH NAME THREADS      load the network: PATH with its runtime, or the pretrained NAME with Keras
error DATASET DATA_DIR IMAGES    number of misclassified images among the first IMAGES test images
run BATCH_SIZE BATCHES SHAPE     total seconds, for images of this shape
"""

import os
import sys
import time

from benchmarks.process import CORES
from benchmarks.worker import answer_commands

ERROR_BATCH = 500


class Answers:
    """The state of a worker, with a method for each command."""

    def open(self, form, path, name, threads):
        if path is None:
            self._network = _in_keras(name, folded=form == "Keras, folded")
        else:
            from keras_resv2.exporting.formats import load_exported

            self._network = load_exported(path, form.partition(" ")[0], threads)
        return {}

    def error(self, dataset, data_dir, images):
        from keras_resv2.data import load_split
        from keras_resv2.evaluation import find_mistakes, slices

        test_images, labels = (part[:images] for part in load_split(dataset, "test", data_dir))
        wrong = find_mistakes(self._network, slices(test_images, labels, min(ERROR_BATCH, len(labels))))
        return {"wrong": int(wrong.sum()), "images": len(wrong)}

    def run(self, batch_size, batches, shape):
        import numpy as np

        pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), dtype="uint8")
        started = time.perf_counter()
        for _ in range(batches):
            self._network.predict_on_batch(pixels)
        return {"seconds": time.perf_counter() - started}


def _in_keras(name, folded):
    import keras_resv2

    model = keras_resv2.from_pretrained(name)
    return keras_resv2.fold(model) if folded else model


def main():
    """Answers commands until stdin ends, on the number of cores set by the parent."""
    if CORES in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ[CORES])])
    answer_commands(Answers())


if __name__ == "__main__":
    sys.exit(main())
