"""The queue: schedules runs on cores until all are finished or the time is up."""

import dataclasses
import os
import signal
import time

from train.job_queue.jobs import Job
from train.job_queue.processes import PROGRAM, STOPPED, Process, is_locked, last_line
from train.job_queue.progress import Progress, Speeds, read_progress, remaining_part

FINISHED, SOMETHING_FAILED, TIME_UP = 0, 1, STOPPED  # exit codes of `train.sweep`
ELSEWHERE, DOES_NOT_FIT = "another process trains it", "does not fit in the time left"
POLL_SECONDS, SHOW_SECONDS, PACK_SECONDS = 0.2, 5, 60
GRACE_SECONDS = 30  # for a run to save: it reacts between two dispatches of about a second each


@dataclasses.dataclass
class Entry:
    """A run and its status.

    Attributes:
        job: `train.job_queue.jobs.Job`.
        state: "waiting", "running", "finished", "diverged", "failed" or "stopped".
        progress: `train.job_queue.progress.Progress`.
        message: reason why the run failed or waits.
        process: `train.job_queue.processes.Process` of a running run.
        seconds_left: estimated remaining time; None if unknown.
    """

    job: Job
    state: str = "waiting"
    progress: Progress = dataclasses.field(default_factory=Progress)
    message: str = ""
    process: Process | None = None
    seconds_left: float | None = None

    @property
    def steps(self):
        """Number of steps of the whole run; None if unknown."""
        return self.progress.steps or self.job.steps


class Queue:
    """A queue of runs, several of which are trained at the same time.

    Args:
        jobs: list of `train.job_queue.jobs.Job`.
        out: directory of the sweep.
        machine: `train.job_queue.processes.Machine`.
        seconds: time limit for all runs; None for no limit.
        at_once: number of concurrent runs; None for one on an accelerator, or one per core on a CPU.
        partial: whether to also start runs that will not finish in time.
        pack: function that packs the entries, which are in order of priority; or None.
        show: function of this queue, called every few seconds.
        notify: function of a line of text, for problems not related to a run.
        program: command that starts `train.train`, as a list.
        clock: function that returns the time in seconds.
    """

    def __init__(
        self, jobs, out, machine, seconds=None, at_once=None, partial=False,
        pack=None, show=lambda queue: None, notify=print, program=PROGRAM, clock=time.monotonic,
    ):  # fmt: skip
        self._out, self._machine, self._program, self.clock = out, machine, program, clock
        self._partial, self._pack, self._show, self._notify = partial, pack, show, notify
        self.entries = [Entry(job) for job in jobs]
        for entry in self.entries:
            entry.progress = read_progress(entry.job.config.out)
            entry.state = _state(entry.progress)
        waiting = sum(entry.state == "waiting" for entry in self.entries)
        usual = 1 if machine.accelerators else min(len(machine.cores), max(1, waiting))
        self.at_once = at_once or usual
        self._pinned = not machine.accelerators and 1 < self.at_once <= len(machine.cores)
        self._speeds = Speeds({machine.hardware(n): n for n in range(1, len(machine.cores) + 1)})
        self._started = clock()
        self._grace = GRACE_SECONDS if seconds is None else min(GRACE_SECONDS, seconds / 10)
        self._deadline = None if seconds is None else self._started + seconds
        self._next_show = self._next_pack = 0.0
        self._signals, self._problem = 0, None
        self._estimate()

    @property
    def time_left(self):
        """Seconds until runs are asked to stop; None without a limit."""
        return None if self._deadline is None else self._deadline - self._grace - self.clock()

    def run(self):
        """Trains all runs.

        Returns:
            Exit code: 0 if all runs are finished, 143 if the time is up or a signal arrived, 1 if a run failed or
            diverged and all others are finished.
        """
        try:
            while not self._signals and (self.time_left is None or self.time_left > 0):
                self._reap()
                self._start()
                if not self._running() and not any(entry.message == ELSEWHERE for entry in self._waiting()):
                    break
                self._look()
                time.sleep(POLL_SECONDS)
        finally:
            self._stop()
        self._look(now=True)
        return self.exit_code()

    def stop(self, *_):
        """Signal handler that makes runs save and stop, and `run` return; kills runs the second time."""
        self._signals += 1

    def exit_code(self):
        """Returns the exit code of `run` for the current status of the runs."""
        states = {entry.state for entry in self.entries}
        if states <= {"finished"}:
            return FINISHED
        return TIME_UP if states & {"waiting", "running", "stopped"} else SOMETHING_FAILED

    def order(self):
        """Returns waiting entries in starting order: started ones by remaining time, then others by priority."""

        def key(entry):
            begun = entry.progress.resumable > 0
            left = remaining_part(entry.progress, entry.steps)
            seconds = float("inf") if entry.seconds_left is None else entry.seconds_left
            return (not begun, seconds if begun else 0, left if begun else 0, -entry.job.priority)

        return sorted(self._waiting(), key=key)

    def fits(self, entry):
        """Returns whether a run is expected to finish in the remaining time."""
        return self.time_left is None or entry.seconds_left is None or entry.seconds_left <= self.time_left

    def _waiting(self):
        return [entry for entry in self.entries if entry.state == "waiting"]

    def _running(self):
        return [entry for entry in self.entries if entry.state == "running"]

    def _start(self):
        """Starts runs that fit while there are free slots."""
        while len(self._running()) < self.at_once and (not self._pinned or self._free_cores()):
            entry = self._next()
            if entry is None:
                return
            entry.message = ""
            try:
                environment = {"JAX_COMPILATION_CACHE_DIR": str(self._out / ".compiled")}
                environment = {name: value for name, value in environment.items() if name not in os.environ}
                if self._machine.accelerators and self.at_once > 1:  # they share the memory of the accelerator
                    environment.update(XLA_PYTHON_CLIENT_PREALLOCATE="false", TF_FORCE_GPU_ALLOW_GROWTH="true")
                entry.process = Process(entry.job.config, self._cores(), environment, self._program)
                entry.state = "running"
            except OSError as error:
                entry.state, entry.message = "failed", str(error)
            self._next_show = 0.0

    def _next(self):
        while doomed := [entry for entry in self._waiting() if self._fails(self._needed(entry))]:
            for entry in doomed:
                needed = self._needed(entry)
                entry.state, entry.message = "failed", f"depends on {needed.job.name}, which {needed.state}"
        free = []
        for entry in self.order():
            needed = self._needed(entry)
            if needed:
                entry.message = f"depends on {needed.job.name}, which is not finished"
            elif is_locked(entry.job.config.out):
                entry.message = ELSEWHERE
            else:
                entry.message = "" if self.fits(entry) else DOES_NOT_FIT
                free.append(entry)
        fitting = [entry for entry in free if not entry.message]
        return next(iter(fitting or (free if self._partial else [])), None)

    @staticmethod
    def _fails(entry):
        return entry is not None and entry.state in ("failed", "diverged")

    def _needed(self, entry):
        """Returns an unfinished entry that a run depends on; None if there is none."""
        places = entry.job.places()
        unfinished = (other for other in self.entries if other.state != "finished" and other is not entry)
        return next((other for other in unfinished if other.job.place in places), None) if places else None

    def _free_cores(self):
        taken = {core for entry in self._running() for core in entry.process.cores}
        return [core for core in self._machine.cores if core not in taken]

    def _cores(self):
        """Returns the cores for the next run: the free ones, divided among all runs that could start now."""
        if not self._pinned:
            return None
        free = self._free_cores()
        ready = [entry for entry in self._waiting() if not self._needed(entry)]
        starting = min(self.at_once - len(self._running()), len(ready))
        return tuple(free[: max(1, len(free) // max(1, starting))])

    def _reap(self):
        """Checks which runs have ended, and how."""
        for entry in self._running():
            status = entry.process.poll()
            if status is None:
                continue
            self._end(entry, status)
            self._estimate()
            self._next_show = 0.0

    def _end(self, entry, status):
        entry.process = None
        try:
            entry.progress = read_progress(entry.job.config.out)
        except ValueError as error:
            entry.state, entry.message = "failed", str(error)
            return
        entry.state = _state(entry.progress)
        if entry.state == "diverged":
            entry.message = f"diverged at step {entry.progress.diverged:,}"
        elif entry.state != "finished" and status in (STOPPED, -signal.SIGTERM):
            entry.state, entry.message = "stopped", f"stopped, saved at step {entry.progress.resumable:,}"
        elif entry.state != "finished":
            entry.state = "failed"
            entry.message = last_line(entry.job.config.out) or f"ended with exit status {status}"

    def _look(self, now=False):
        """Reads and shows the progress of runs, and updates status.csv and the archives."""
        if now or self.clock() >= self._next_show:
            for entry in self._running():
                entry.progress = read_progress(entry.job.config.out)
            self._estimate()
            self._try(self._show, self)
            self._next_show = self.clock() + SHOW_SECONDS
        if self._pack and (now or self.clock() >= self._next_pack):
            self._try(self._pack, self.wanted())
            self._next_pack = self.clock() + PACK_SECONDS

    def _try(self, function, *arguments):
        """Calls a function that writes files; runs continue if the disk is full."""
        try:
            function(*arguments)
        except OSError as error:
            if str(error) != self._problem:
                self._notify(f"warning: {error}")
            self._problem = str(error)

    def _estimate(self):
        for entry in self.entries:
            self._speeds.add(entry.job.config, entry.progress)
        usual = len(self._machine.cores) // (self.at_once if self._pinned else 1)
        free = len(self._cores() or ()) or usual
        for entry in self.entries:
            running = entry.state == "running"
            cores = len(entry.process.cores) or len(self._machine.cores) if running else free
            hardware = self._machine.hardware(cores)
            entry.seconds_left = self._speeds.seconds_left(
                entry.job.config, entry.progress, entry.steps, hardware, running
            )

    def wanted(self):
        """Returns all entries by priority of their files: finished ones, then by remaining time."""
        rank = {"finished": 0, "failed": 2, "diverged": 2}
        return sorted(
            self.entries, key=lambda entry: (rank.get(entry.state, 1), remaining_part(entry.progress, entry.steps))
        )

    def _stop(self):
        """Makes all runs save and stop; kills those that do not in time."""
        signals = self._signals
        for entry in self._running():
            entry.process.stop()
        grace = self._grace if self._deadline is None else min(self._grace, self._deadline - self.clock())
        until = self.clock() + 0.8 * grace  # the rest is for the archives
        while self._running() and self.clock() < until and self._signals < max(2, signals + 1):
            self._reap()
            time.sleep(POLL_SECONDS / 4)
        for entry in self._running():
            entry.process.kill()
            self._end(entry, STOPPED)


def _state(progress):
    if progress.finished:
        return "finished"
    return "waiting" if progress.diverged is None else "diverged"
