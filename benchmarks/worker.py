"""The process of one contender: commands come as JSON lines on stdin, answers go to stdout.

    hello                       {}
    open TASK BATCH_SIZE GPU    seconds of import, build and load; bytes of the weight file; parameters
    infer BATCHES               seconds, all in all
    train BATCHES               seconds, all in all
    memory                      peak bytes: of the accelerator where it runs on one, else of this process
    machine                     hardware and commit
    floor NETWORKS ...          `benchmarks.machine.floors`

Before `open` it imports no library.
"""

import importlib
import json
import math
import os
import sys
import tempfile
import time

from benchmarks.process import CORES
from train.memory import peak_bytes


class Answers:
    """State of a worker, and a method for each command."""

    def __init__(self, folder):
        self._folder = folder
        self._calls = {}

    def hello(self):
        return {}

    def open(self, task, batch_size, gpu):
        module, _, name = task["subject"].partition(":")
        self._subject = subject = getattr(importlib.import_module(module), name)(task, batch_size, gpu)
        path = os.path.join(self._folder, subject.file_name)
        answer = {"import": _timed(subject.start)[1]}
        device = subject.accelerator()
        if gpu and device is None:
            raise RuntimeError("sees no accelerator")
        subject.prepare(path)
        built, seconds = _timed(subject.build)
        subject.save(built, path)
        self._loaded, answer["load"] = _timed(subject.load, path)
        self._built = self._loaded if built is None else built
        answer["build"] = None if built is None else seconds
        return {
            **answer,
            "file": os.path.getsize(path),
            "parameters": subject.parameters(self._built),
            "device": device or "cpu",
        }

    def infer(self, batches):
        return {"seconds": self._run("infer", batches)}

    def train(self, batches):
        return {"seconds": self._run("train", batches)}

    def memory(self):
        return {"bytes": self._subject.peak_device_bytes() if self._subject.gpu else peak_bytes()}

    def machine(self):
        from benchmarks.machine import describe

        return describe()

    def floor(self, **arguments):
        from benchmarks.machine import floors

        return {"floors": floors(**arguments)}

    def _run(self, kind, batches):
        """The first time, what has to be done before the first batch counts as well."""
        started = time.perf_counter()
        if kind not in self._calls:
            make, network = {
                "infer": (self._subject.inference, self._built),
                "train": (self._subject.training, self._loaded),
            }[kind]
            self._calls[kind] = make(network)
        call = self._calls[kind]
        for _ in range(batches):
            result = call()
        self._subject.wait()
        seconds = time.perf_counter() - started
        if kind == "train" and not math.isfinite(float(result)):
            raise RuntimeError(f"the loss is {result}")
        return seconds


def _timed(function, *arguments):
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


def main():
    """Answers until stdin ends. What libraries print goes to stderr."""
    if CORES in os.environ:  # libraries start as many threads as there are cores left
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ[CORES])])
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(folder, "inductor")  # each compiles for itself
        answers = Answers(folder)
        for line in sys.stdin:
            arguments = json.loads(line)
            try:
                answer = getattr(answers, arguments.pop("command"))(**arguments)
            except Exception as error:  # the parent reports it, and goes on with others
                answer = {"error": f"{type(error).__name__}: {error}"}
            output.write(json.dumps(answer) + "\n")
            output.flush()


if __name__ == "__main__":
    main()
