"""Training runs as processes: started on dedicated cores, stopped, and checked for their exit status."""

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys

import filelock

from train.job_queue.archives import LOG
from train.run_files import LOCK

PROGRAM = (sys.executable, "-m", "train.train")
STOPPED = 128 + signal.SIGTERM  # exit status of `train.train` after it saved and stopped
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
LAST_LINE = 300  # maximum number of characters of a log to show
PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that runs are trained on.

    Attributes:
        accelerators: names of the accelerators visible to the backend.
        processor: its name in run.json, without the number of cores.
        cores: indices of the usable cores.
    """

    accelerators: tuple[str, ...]
    processor: str
    cores: tuple[int, ...]

    def hardware(self, cores):
        """Returns the hardware entry of run.json for a run on this many cores."""
        if self.accelerators:
            return f"1 x {self.accelerators[0]}"
        return f"{cores} {'core' if cores == 1 else 'cores'} of {self.processor}"


def find_machine():
    """Finds the `Machine` in a subprocess, because loading the backend here would allocate accelerator memory.

    Raises:
        OSError: if the subprocess failed; the message has its last line.
    """
    program = (
        "import json; from train.environment import accelerators, processor, usable_cores;"
        "print(json.dumps([accelerators(), processor(0).partition(' of ')[2], usable_cores()]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise OSError(f"the backend of Keras cannot be loaded: {lines[-1]}")
    accelerators, processor, cores = json.loads(done.stdout.splitlines()[-1])
    return Machine(tuple(accelerators), processor, tuple(cores))


class Process:
    """A running run. It has its own session, so that Ctrl-C in a terminal reaches it only once, from here.

    Args:
        config: `train.config.RunConfig`, with its directories.
        cores: cores that it may use; None for all.
        environment: environment variables in addition to those of this process.
        program: command that starts `train.train`, as a list.
    """

    def __init__(self, config, cores=None, environment=None, program=PROGRAM):
        self.cores = cores or ()
        config.out.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, **(environment or {})}
        if cores:
            variables.update(dict.fromkeys(THREADS, str(len(cores))))
        with open(config.out / LOG, "ab") as log, _affinity(cores):
            self._process = subprocess.Popen(
                [*program, *config.flags(places=True)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,
                preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
            )

    def poll(self):
        """Returns the exit status; None while it is running."""
        return self._process.poll()

    def stop(self):
        """Asks the process to save and stop."""
        self._process.terminate()

    def kill(self):
        """Kills the process and waits for it."""
        self._process.kill()
        self._process.wait()


class _affinity:
    """Context manager for starting processes on some cores, as a child inherits the affinity of its thread."""

    def __init__(self, cores):
        self._cores = cores if cores and hasattr(os, "sched_setaffinity") else None

    def __enter__(self):
        if self._cores:
            self._before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, self._cores)

    def __exit__(self, *exception):
        if self._cores:
            os.sched_setaffinity(0, self._before)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _stop_with_parent():
    """On Linux, makes a run save and stop when the sweep is killed, instead of continuing unnoticed."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_locked(run):
    """Returns whether a process is training in a directory.

    Args:
        run: directory of the run, which need not exist.
    """
    if not run.exists():
        return False
    try:
        filelock.FileLock(run / LOCK).acquire(timeout=0).lock.release()
    except filelock.Timeout:
        return True
    except NotImplementedError:  # the file system does not support locks
        return False
    return False


def last_line(run):
    """Returns the last line of a run's log, truncated; empty if there is none."""
    try:
        with open(run / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    line = lines[-1].strip() if lines else ""
    return line if len(line) <= LAST_LINE else f"{line[: LAST_LINE - 3]}..."
