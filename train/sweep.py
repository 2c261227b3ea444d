"""Trains many networks: a queue of runs of `train.train`, each in its own directory and process.

    python -m train.sweep --jobs train/jobs/table2_short.toml --out runs --data_dir cifar10.npz --minutes 60

Run the same command to resume after any interruption. Runs that are closest to their end come first, then those with
the highest priority. With --minutes, runs that would not finish in time are not started, and runs save and stop before
the time is up. --pack stores results and newest checkpoints in a few small archives, which --unpack restores on another
machine. For details, see train/README.md.

Exit codes: 0 all runs are finished, 1 some failed or diverged and the others are finished, 143 the time is up or the
sweep was stopped, 2 bad input.
"""

import argparse
import contextlib
import json
import pathlib
import shlex
import signal
import sys
import time

import filelock

from keras_resv2.data import DATASETS
from keras_resv2.startup import print_stderr, stop_output
from train.config import FORMS
from train.job_queue.archives import ARCHIVE_BYTES, ARCHIVES, MIB, Packer
from train.job_queue.display import Display, duration
from train.job_queue.jobs import JobError, read_jobs
from train.job_queue.processes import PROGRAM, find_machine
from train.job_queue.scheduler import Queue
from train.job_queue.unpacking import read_archives, unpack
from train.run_files import (
    LOCK,
    RUN_FILE,
    TRAIN_IMAGES,
    WEIGHTS,
    differences,
    kept_version,
    newest_checkpoints,
    newest_step,
    read_record,
)

BAD_INPUT = 2


def main(argv=None, program=PROGRAM, machine=None, clock=time.monotonic):
    """Runs the command line.

    Args:
        argv: list of arguments; None for those of this process.
        program: command that starts `train.train`, as a list.
        machine: `train.job_queue.processes.Machine`; None to detect it.
        clock: function that returns the time in seconds.

    Returns:
        Exit code.
    """
    arguments = _parse(argv)
    try:
        out = pathlib.Path(arguments.out)
        jobs = read_jobs(arguments.jobs, out, _data_dirs(arguments.data_dir)) if arguments.jobs else []
        with _alone(out, arguments.dry_run):
            if arguments.unpack:
                problems = _unpack(arguments.unpack, out, arguments.dry_run)
                if not jobs:
                    return 1 if problems else 0
            check_runs(jobs)
            return _sweep(arguments, jobs, out, program, machine or find_machine(), clock)
    except BrokenPipeError:
        return stop_output()
    except JobError as error:
        problems = error.lines
    except (ValueError, OSError) as error:
        problems = [" ".join(str(error).split())]
    for problem in problems:
        print_stderr(f"error: {problem}")
    return BAD_INPUT


def _parse(argv):
    parser = argparse.ArgumentParser(prog="python -m train.sweep", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", metavar="FILE", help="TOML file of the runs")
    parser.add_argument("--out", metavar="DIR", required=True, help="directory of the runs")
    parser.add_argument(
        "--data_dir",
        metavar="[DATASET=]DIR",
        action="append",
        default=[],
        help="location of all datasets, or of one; may be repeated",
    )
    parser.add_argument("--minutes", type=_positive, help="time limit; runs are stopped before it")
    parser.add_argument("--partial", action="store_true", help="also start runs that will not finish in time")
    parser.add_argument(
        "--at_once", type=_count, metavar="N", help="number of concurrent runs (default: see train/README.md)"
    )
    parser.add_argument("--pack", metavar="DIR", help="store results and newest checkpoints in archives there")
    parser.add_argument(
        "--pack_mib", type=_mebibytes, metavar="N", help="total size of the archives, 1 to 105 (default: 7 of 15 MiB)"
    )
    parser.add_argument("--unpack", metavar="DIR", help="restore runs from archives there before starting")
    parser.add_argument("--dry_run", action="store_true", help="print the queue and exit")
    arguments = parser.parse_args(argv)
    if not arguments.jobs and not arguments.unpack:
        parser.error("--jobs is required (unless only --unpack is given)")
    if arguments.pack_mib and not arguments.pack:
        parser.error("--pack_mib needs --pack, the directory of the archives")
    unused = [name for name in ("data_dir", "minutes", "partial", "at_once", "pack") if getattr(arguments, name)]
    if not arguments.jobs and unused:
        parser.error(f"--{unused[0]} has no effect without --jobs")
    return arguments


def _sweep(arguments, jobs, out, program, machine, clock):
    seconds = None if arguments.minutes is None else 60 * arguments.minutes
    if not arguments.dry_run:
        out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        display = None if arguments.dry_run else stack.enter_context(Display(out))
        say = display.say if display else print
        queue = Queue(
            jobs, out, machine, seconds, arguments.at_once, arguments.partial,
            pack=arguments.pack and not arguments.dry_run and _packing(arguments, jobs, out, say),
            show=display.show if display else lambda queue: None, notify=say, program=program, clock=clock,
        )  # fmt: skip
        waiting = queue.order()
        if waiting and not arguments.partial and not any(queue.fits(entry) for entry in waiting):
            raise ValueError(
                f"no run fits in {arguments.minutes:g} minutes: the shortest takes "
                f"{duration(min(entry.seconds_left for entry in waiting))}. --partial starts it anyway."
            )
        if arguments.dry_run:
            _print_queue(queue)
            return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as Ctrl-C in the background of a shell
                stack.callback(signal.signal, number, signal.signal(number, queue.stop))
        return queue.run()


def check_runs(jobs):
    """Raises `JobError` if the directory of a run contains another run, or checkpoints of an unknown run."""
    problems = []
    for job in jobs:
        out = job.config.out
        try:
            if not (out / RUN_FILE).exists():
                if newest_checkpoints(out):
                    problems.append(f"{out} contains checkpoints of an unknown run, without {RUN_FILE}: set a name.")
                continue
            changed = _differences(job.config, read_record(out)["settings"])
            if changed:
                problems.append(f"{out} contains a run with different {', '.join(changed)}: set a name.")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise JobError(problems)


def _differences(config, recorded):
    """Returns settings that differ from run.json; those that depend on data are compared when the run starts."""
    recipe = config.values.for_images(recorded.get("train_images", TRAIN_IMAGES))
    chosen = json.loads(json.dumps(config.chosen(recipe)))
    resolved = {"initial_weights": chosen, "teacher": chosen["recipe_values"]}  # run.json also has their versions
    for name, where in resolved.items():
        kept = recorded if where is chosen else recorded.get("recipe_values", {})
        where[name] = kept_version(where.get(name), kept.get(name)) or where.get(name)
    flags = (*FORMS, "resize", "initial_weights")
    kept = {name: value for name, value in recorded.items() if name not in flags}
    return differences({**kept, **chosen}, recorded)


def _print_queue(queue):
    order = [*queue.order(), *(entry for entry in queue.entries if entry.state != "waiting")]
    print(f"{len(queue.entries)} runs, {queue.at_once} at once")
    for entry in order:
        steps = f"{entry.steps:,} steps" if entry.steps else f"{entry.job.config.values.epochs} epochs"
        done = f", {entry.progress.resumable:,} done" if entry.progress.resumable else ""
        takes = "" if entry.state != "waiting" else f", takes {duration(entry.seconds_left)}"
        fits = "" if entry.state != "waiting" or queue.fits(entry) else ", does not fit in the time"
        print(f"{entry.job.name}: {entry.state}, {steps}{done}{takes}{fits}")
        print(f"    {shlex.join(['python', '-m', 'train.train', *entry.job.config.flags(places=True)])}")


def _packing(arguments, jobs, out, say):
    """Returns the function that packs runs, which reports once which of them do not fit."""
    folder = pathlib.Path(arguments.pack)
    packer = Packer(folder, out, arguments.pack_mib and int(arguments.pack_mib * MIB))
    known = {job.name for job in jobs}
    with contextlib.suppress(FileNotFoundError):  # there are no archives yet
        held = {run: files for run, files in read_archives(folder)[0].items() if RUN_FILE in files}
        lost = sorted(run for run, files in held.items() if run not in known or _is_behind(out / run, files))
        if lost:
            raise ValueError(
                f"{folder} contains {lost[0]}, which would be lost: --unpack it first, or pack to another folder."
            )
    told = []

    def pack(entries):
        left_out = packer.pack([(entry.job.name, entry.state == "finished") for entry in entries])
        if left_out and left_out != told:
            say(f"{folder} has no space for {', '.join(left_out)}")
        told[:] = left_out

    return pack


def _is_behind(run, packed):
    """Returns whether a run has progressed further in the archives than in its directory.

    Args:
        run: its directory.
        packed: names of its files in the archives.
    """
    if not (run / RUN_FILE).exists():
        return True
    if (run / WEIGHTS).exists():
        return False
    there = newest_step(name for name in packed if name.startswith("checkpoint-"))
    return WEIGHTS in packed or there > newest_step(newest_checkpoints(run))


def _unpack(folder, out, dry_run):
    """Restores archives and prints the result; returns the problems."""
    if dry_run:
        runs, problems = read_archives(folder)
        print(f"{folder} contains {', '.join(sorted(runs))}")
    else:
        runs, problems = unpack(folder, out)
        print(
            f"unpacked {', '.join(runs) or 'nothing: no run has progressed further than the existing ones'}", flush=True
        )
    for problem in problems:
        print_stderr(f"warning: {problem}")
    return problems


@contextlib.contextmanager
def _alone(out, dry_run):
    """Context manager that prevents other sweeps from using the directory."""
    if dry_run:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK)
    try:
        with contextlib.suppress(NotImplementedError):  # the file system does not support locks
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(f"another sweep is running in {out}: wait for it, stop it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()


def _data_dirs(texts):
    """Parses locations of datasets: a dictionary whose key None applies to all others."""
    places = {}
    for text in texts:
        name, found, place = text.partition("=")
        key, place = (name, place) if found and name in DATASETS else (None, text)
        if key in places:
            raise ValueError(f"--data_dir {places[key]} and {place} are for the same datasets: choose one.")
        places[key] = place
    return places


def _mebibytes(text):
    value = float(text)
    most = ARCHIVES * ARCHIVE_BYTES // MIB
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} must be from 1 to {most}, {ARCHIVES} archives of equal size")
    return value


def _positive(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _count(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
