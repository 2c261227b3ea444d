"""The process of one contender. It reads commands as JSON lines from stdin and answers on stdout.

    hello                            {}
    build TASK BATCH_SIZE GPU FOLDER   import and build with random weights; the first time write them to FOLDER
    load TASK BATCH_SIZE GPU FOLDER    import and build with the weights in FOLDER
    infer BATCHES                    total seconds
    train BATCHES                    total seconds
    profile BATCHES                  milliseconds of a training step by operation: `benchmarks.profile.trace`
    memory                           peak bytes of the accelerator if used, else of this process
    machine                          hardware and commit
    floor NETWORKS ...               `benchmarks.machine.floors`

`build` and `load` return seconds of "import" and "open" (null if there is no network without a file), bytes of the
file, parameters and device; no library is imported before them. `infer` and `train` run the network that they created.
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
    """The state of a worker, with a method for each command."""

    def __init__(self):
        self._calls = {}

    def hello(self):
        return {}

    def build(self, task, batch_size, gpu, folder):
        answer = self._start(task, batch_size, gpu, folder)
        self._network, answer["open"] = _timed(self._implementation.build)
        if not os.path.exists(self._file):
            os.makedirs(folder, exist_ok=True)
            self._implementation.save(self._network, self._file)
        if self._network is None:
            self._network, answer["open"] = self._implementation.load(self._file), None
        return {**answer, **self._facts()}

    def load(self, task, batch_size, gpu, folder):
        answer = self._start(task, batch_size, gpu, folder)
        self._network, answer["open"] = _timed(self._implementation.load, self._file)
        return {**answer, **self._facts()}

    def _start(self, task, batch_size, gpu, folder):
        module, _, name = task["implementation"].partition(":")
        self._implementation = getattr(importlib.import_module(module), name)(task, batch_size, gpu)
        self._file = os.path.join(folder, self._implementation.file_name)
        answer = {"import": _timed(self._implementation.start)[1]}
        if gpu and self._implementation.accelerator() is None:
            raise RuntimeError("sees no accelerator")
        return answer

    def _facts(self):
        return {
            "file": os.path.getsize(self._file),
            "parameters": self._implementation.parameters(self._network),
            "device": self._implementation.accelerator() or "cpu",
        }

    def infer(self, batches):
        return {"seconds": self._run("infer", batches)}

    def train(self, batches):
        return {"seconds": self._run("train", batches)}

    def profile(self, batches):
        from benchmarks.profile import trace

        self._run("train", 1)
        return {"operations": trace(self._calls["train"], batches)}

    def memory(self):
        return {"bytes": self._implementation.peak_device_bytes() if self._implementation.gpu else peak_bytes()}

    def machine(self):
        from benchmarks.machine import describe

        return describe()

    def floor(self, **arguments):
        from benchmarks.machine import floors

        return {"floors": floors(**arguments)}

    def _run(self, kind, batches):
        """Runs batches; the first time this includes preparation."""
        started = time.perf_counter()
        if kind not in self._calls:
            make = {"infer": self._implementation.inference, "train": self._implementation.training}[kind]
            self._calls[kind] = make(self._network)
        call = self._calls[kind]
        for _ in range(batches):
            result = call()
        self._implementation.wait()
        seconds = time.perf_counter() - started
        if kind == "train" and not math.isfinite(float(result)):
            raise RuntimeError(f"the loss is {result}")
        return seconds


def _timed(function, *arguments):
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


def main():
    """Answers commands until stdin ends."""
    if CORES in os.environ:  # libraries start as many threads as there are usable cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ[CORES])])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(folder, "inductor")  # each worker compiles separately
        answer_commands(Answers())


def answer_commands(answers):
    """Answers JSON lines from stdin on stdout until stdin ends. Output of libraries goes to stderr.

    Args:
        answers: object with a method for each command.
    """
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = getattr(answers, arguments.pop("command"))(**arguments)
        except Exception as error:  # the parent reports it and continues with others
            answer = {"error": f"{type(error).__name__}: {error}"}
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
