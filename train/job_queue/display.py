"""Displays a queue: a table on a terminal, lines elsewhere; and writes status.csv."""

import shlex
import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keras_resv2.files import write_history

STATUS = "status.csv"
LINE_SECONDS = 60  # between lines about a running run
COLORS = {"running": "cyan", "finished": "green", "diverged": "red", "failed": "red", "stopped": "yellow"}
SPARE_LINES = 8  # of a terminal, not used by the table


def status_row(entry):
    """Returns the status of a run, as shown in status.csv and the table.

    Args:
        entry: `train.job_queue.scheduler.Entry`.
    """
    progress, config = entry.progress, entry.job.config
    speed = progress.seconds_per_step
    return {
        "run": entry.job.name,
        "state": entry.state,
        "step": progress.step,
        "steps": entry.steps,
        "images_per_second": round(config.values.batch_size / speed, 1) if speed else None,
        "test_error": progress.test_error,
        "seconds": round(progress.seconds, 1),
        "seconds_left": None if entry.seconds_left is None else round(entry.seconds_left),
        "priority": entry.job.priority,
        "message": entry.message,
        "command": shlex.join(["python", "-m", "train.train", *config.flags(places=True)]),
    }


def write_status(entries, out):
    """Writes status.csv atomically."""
    write_history([status_row(entry) for entry in entries], out / STATUS)


def duration(seconds):
    """Formats seconds.

    Example:

    >>> duration(45), duration(600), duration(9000), duration(None)
    ('45 s', '10 min', '2.5 h', '?')
    """
    if seconds is None:
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Display:
    """Shows a queue; a context manager.

    Args:
        out: directory of the sweep, for status.csv.
        console: `rich` console; defaults to standard output.
    """

    def __init__(self, out, console=None):
        self._out = out
        self._console = console or Console(file=sys.stdout)
        # Without its own thread, because processes are started from this one.
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._told = {}

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception):
        if self._live:
            self._live.stop()

    def show(self, queue):
        """Shows the status of a queue and writes status.csv.

        Args:
            queue: `train.job_queue.scheduler.Queue`.
        """
        if self._live:
            self._live.update(self._table(queue), refresh=True)
        else:
            self._tell(queue)
        write_status(queue.entries, self._out)

    def say(self, line):
        """Prints a line, above the table if there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, queue):
        """Prints a line for each run whose state changed, and one per minute for running ones."""
        now = queue.clock()
        for entry in queue.entries:
            state, told = self._told.get(entry.job.name, ("waiting", now))
            if entry.state != state or (entry.state == "running" and now - told >= LINE_SECONDS):
                self.say(line_of(entry))
                self._told[entry.job.name] = entry.state, now

    def _table(self, queue):
        counts = {}
        for entry in queue.entries:
            counts[entry.state] = counts.get(entry.state, 0) + 1
        left = "" if queue.time_left is None else f", {duration(max(0, queue.time_left))} left"
        title = f"{', '.join(f'{count} {state}' for state, count in counts.items())}; {queue.at_once} at once{left}"
        table = Table(title=title, title_justify="left")
        for name, justify in (("run", "left"), ("state", "left"), *((n, "right") for n in NUMBERS), ("", "left")):
            table.add_column(name, justify=justify, overflow="fold")
        most = max(3, self._console.height - SPARE_LINES)
        for entry in self._shown(queue)[:most]:
            row = status_row(entry)
            color = COLORS.get(entry.state, "")
            state = f"[{color}]{entry.state}[/]" if color else entry.state
            table.add_row(entry.job.name, state, *_numbers(entry, row), Text(entry.message))
        return table

    def _shown(self, queue):
        """Returns the entries to show: running, failed, next and finished ones."""
        rank = {"running": 0, "failed": 1, "diverged": 1, "stopped": 2, "waiting": 3, "finished": 4}
        waiting = {id(entry): place for place, entry in enumerate(queue.order())}
        return sorted(queue.entries, key=lambda entry: (rank[entry.state], waiting.get(id(entry), 0)))


NUMBERS = ("steps", "images/s", "test error", "left")


def _numbers(entry, row):
    steps = f"{row['step']:,}" + (f" of {row['steps']:,}" if row["steps"] else "")
    speed = f"{row['images_per_second']:,.0f}" if row["images_per_second"] else ""
    error = "" if row["test_error"] is None else f"{row['test_error']:.2f} %"
    return steps, speed, error, duration(entry.seconds_left) if entry.state in ("running", "waiting", "stopped") else ""


def line_of(entry):
    """Returns the status of a run as a line of text."""
    steps, speed, error, left = _numbers(entry, status_row(entry))
    parts = [f"step {steps}", speed and f"{speed} images/s", error and f"test error {error}"]
    if entry.state == "running" and entry.seconds_left is not None:
        parts.append(f"{left} left")
    return f"{entry.job.name}: {entry.state}, {', '.join(filter(None, [*parts, entry.message]))}"
