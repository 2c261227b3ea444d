"""The parent's view of a worker process: starting, sending commands, ending."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "benchmarks.worker")
CORES = "BENCHMARKS_CORES"  # environment variable with the number of cores of a worker
END_SECONDS = 10  # time for a worker to exit by itself
MOST_CHARACTERS = 300  # of an error message


class WorkerError(Exception):
    """Raised when a worker answers with an error, dies or takes too long; the message is one line."""


class Worker:
    """A process that answers one command at a time.

    Args:
        environment: environment variables of the process.
        timeout: time limit of one command in seconds.
        command: command that starts the process, as a list.

    Example:

    >>> with Worker(worker_environment()) as worker:
    ...     worker.ask("hello")
    {}
    """

    def __init__(self, environment, timeout=1800, command=COMMAND):
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close ends it)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, command, **arguments):
        """Sends a command and waits for its answer.

        Args:
            command: "load", "infer", "train", "memory", ..., see `benchmarks.worker`.
            **arguments: JSON-serialisable arguments of the command.

        Returns:
            The answer, a dictionary.

        Raises:
            WorkerError: if there is no answer.
        """
        late = threading.Event()
        timer = threading.Timer(self._timeout, lambda: (late.set(), self._process.kill()))
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # it died before reading
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(f"took longer than {self._timeout} s" if late.is_set() else self._death())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(one_line(answer["error"]))
        return answer

    def close(self):
        """Ends the process, killing it if it does not exit."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # it died before reading everything
                pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _death(self):
        """Describes how the process ended, with its last line of output."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its output"
        ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return one_line(f"{ended}: {lines[-1]}" if lines else ended)


def worker_environment(backend=None, gpu=False, cores=None):
    """Returns the environment variables of a worker.

    Args:
        backend: Keras backend; None for the current one.
        gpu: whether it may use accelerators. Workers that share one allocate its memory on demand.

        cores: number of CPU cores that it may use; None for all.

    Returns:
        Dictionary.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if cores:
        environment[CORES] = str(cores)
    if backend:
        environment["KERAS_BACKEND"] = backend
    if gpu:
        environment.update(TF_FORCE_GPU_ALLOW_GROWTH="true", XLA_PYTHON_CLIENT_PREALLOCATE="false")
    else:
        environment.update(CUDA_VISIBLE_DEVICES="-1", HIP_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    return environment


def one_line(text):
    """Removes line breaks from text and truncates it."""
    text = " ".join(str(text).split())
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 3] + "..."
