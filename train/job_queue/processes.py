"""Training runs as processes: started on cores of their own, stopped, asked how they ended."""

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
STOPPED = 128 + signal.SIGTERM  # exit status of `train.train` that saved and stopped
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
LAST_LINE = 300  # characters of a log that are shown
PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where runs are trained.

    Attributes:
        accelerators: names of those that the backend sees.
        processor: as run.json names it, without the number of cores.
        cores: indices of those that may be used.
    """

    accelerators: tuple[str, ...]
    processor: str
    cores: tuple[int, ...]

    def hardware(self, cores):
        """As run.json has it for a run on so many cores."""
        if self.accelerators:
            return f"1 x {self.accelerators[0]}"
        return f"{cores} {'core' if cores == 1 else 'cores'} of {self.processor}"


def find_machine():
    """The `Machine`, asked of a process that loads the backend: here it would take memory of the accelerator.

    Raises:
        OSError: that process failed; the message has its last line.
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
    """A run under way. It has a session of its own, so that Ctrl-C in a terminal reaches it once, from here.

    Args:
        config: `train.config.RunConfig`, with its places.
        cores: those it may use; None for all.
        environment: variables besides those of this process.
        program: words that start `train.train`.
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
                preexec_fn=_stop_with_parent,
            )

    def poll(self):
        """Exit status; None while it runs."""
        return self._process.poll()

    def stop(self):
        """Asks it to save and stop."""
        self._process.terminate()

    def kill(self):
        """Ends it at once, and waits for that."""
        self._process.kill()
        self._process.wait()


class _affinity:
    """Context in which processes are started on some cores: a child has those of the thread that starts it."""

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
    """On Linux a run saves and stops where the sweep was killed, instead of going on unseen."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_locked(run):
    """Whether a process trains in a directory.

    Args:
        run: the directory, which need not exist.
    """
    if not run.exists():
        return False
    try:
        filelock.FileLock(run / LOCK).acquire(timeout=0).lock.release()
    except filelock.Timeout:
        return True
    except NotImplementedError:  # this file system knows no locks
        return False
    return False


def last_line(run):
    """The last line of a run's log, shortened; text, empty where there is none."""
    try:
        with open(run / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    line = lines[-1].strip() if lines else ""
    return line if len(line) <= LAST_LINE else f"{line[: LAST_LINE - 3]}..."
