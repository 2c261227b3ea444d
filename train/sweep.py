"""Trains many networks: a queue of runs, each an ordinary run of `train.train` in its own directory and process.

    python -m train.sweep --jobs train/jobs/two_cores.toml --out runs --data_dir cifar10.npz --minutes 60

The same command goes on where it stopped, whatever stopped it. What is nearest its end comes first, then what
has the highest priority. With --minutes nothing starts that would not end in time, and runs save and stop
before the time is up. --pack keeps results and newest checkpoints in a few small archives, which --unpack takes
up elsewhere. train/README.md says more.

Exit codes: 0 all runs are finished, 1 some failed or diverged and the others are finished, 143 the time was up or
the sweep was stopped, 2 bad input.
"""

import argparse
import contextlib
import json
import pathlib
import shlex
import signal
import sys

import filelock

from keras_resv2.data import DATASETS
from train.config import FORMS
from train.job_queue.archives import MIB, Packer
from train.job_queue.display import Display, duration
from train.job_queue.jobs import JobError, read_jobs
from train.job_queue.processes import PROGRAM, find_machine
from train.job_queue.scheduler import Queue
from train.job_queue.unpacking import read_archives, unpack
from train.run_files import LOCK, RUN_FILE, TRAIN_IMAGES, differences, newest_checkpoints, read_record

BAD_INPUT = 2


def main(argv=None, program=PROGRAM, machine=None):
    """Runs the command line.

    Args:
        argv: its words; None for those of this process.
        program: words that start `train.train`.
        machine: `train.job_queue.processes.Machine`; None to look.

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
            return _sweep(arguments, jobs, out, program, machine or find_machine())
    except JobError as error:
        problems = error.lines
    except (ValueError, OSError) as error:
        problems = [" ".join(str(error).split())]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
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
        help="of all datasets, or of one; may be repeated",
    )
    parser.add_argument("--minutes", type=_positive, help="time for all of it; runs are stopped before")
    parser.add_argument("--partial", action="store_true", help="start runs that will not end in time, too")
    parser.add_argument("--at_once", type=_count, metavar="N", help="runs at a time (default: see train/README.md)")
    parser.add_argument("--pack", metavar="DIR", help="keep results and newest checkpoints in archives there")
    parser.add_argument("--pack_mib", type=_positive, metavar="N", help="size of all archives (default: 7 of 15 MiB)")
    parser.add_argument("--unpack", metavar="DIR", help="take runs up from archives there, before anything starts")
    parser.add_argument("--dry_run", action="store_true", help="print the queue, and stop")
    arguments = parser.parse_args(argv)
    if not arguments.jobs and not arguments.unpack:
        parser.error("--jobs is needed (or --unpack alone)")
    return arguments


def _sweep(arguments, jobs, out, program, machine):
    seconds = None if arguments.minutes is None else 60 * arguments.minutes
    if not arguments.dry_run:
        out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        display = None if arguments.dry_run else stack.enter_context(Display(out))
        say = display.say if display else print
        queue = Queue(
            jobs, out, machine, seconds, arguments.at_once, arguments.partial,
            pack=arguments.pack and not arguments.dry_run and _packing(arguments, jobs, out, say),
            show=display.show if display else lambda queue: None, notify=say, program=program,
        )  # fmt: skip
        waiting = queue.order()
        if waiting and not arguments.partial and not any(queue.fits(entry) for entry in waiting):
            raise ValueError(
                f"no run fits in {arguments.minutes:g} minutes: the shortest takes "
                f"{duration(min(entry.seconds_left for entry in waiting))}. --partial starts it nonetheless."
            )
        if arguments.dry_run:
            _print_queue(queue)
            return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, queue.stop)
            stack.callback(signal.signal, number, before)
        return queue.run()


def check_runs(jobs):
    """Raises `JobError` where the directory of a run holds another one, or checkpoints of no known run."""
    problems = []
    for job in jobs:
        out = job.config.out
        try:
            if not (out / RUN_FILE).exists():
                if newest_checkpoints(out):
                    problems.append(f"{out} holds checkpoints without {RUN_FILE}, which says of what run: set a name.")
                continue
            changed = _differences(job.config, read_record(out)["settings"])
            if changed:
                problems.append(f"{out} holds a run with other {', '.join(changed)}: set a name.")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise JobError(problems)


def _differences(config, recorded):
    """Settings in which a run differs from what run.json has; what depends on data is compared as the run starts."""
    recipe = config.values.for_images(recorded.get("train_images", TRAIN_IMAGES))
    chosen = json.loads(json.dumps(config.chosen(recipe)))
    resolved = {"initial_weights": chosen, "teacher": chosen["recipe_values"]}  # run.json has their versions, too
    for name, where in resolved.items():
        kept = recorded if where is chosen else recorded.get("recipe_values", {})
        if where.get(name) and kept.get(name):
            where[name] = kept[name]
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
    """The function that packs runs, which tells once what has no room."""
    folder = pathlib.Path(arguments.pack)
    packer = Packer(folder, out, arguments.pack_mib and int(arguments.pack_mib * MIB))
    known = {job.name for job in jobs}
    with contextlib.suppress(FileNotFoundError):  # there are no archives yet
        held = [run for run, files in read_archives(folder)[0].items() if RUN_FILE in files]
        lost = sorted(run for run in held if run not in known or not (out / run / RUN_FILE).exists())
        if lost:
            raise ValueError(f"{folder} holds {lost[0]}, which would be lost: first --unpack it, or pack elsewhere.")
    told = []

    def pack(entries):
        left_out = packer.pack([(entry.job.name, entry.state == "finished") for entry in entries])
        if left_out and left_out != told:
            say(f"no room in {folder} for {', '.join(left_out)}")
        told[:] = left_out

    return pack


def _unpack(folder, out, dry_run):
    """Takes up archives, and says what came of it; the problems."""
    if dry_run:
        runs, problems = read_archives(folder)
        print(f"{folder} holds {', '.join(sorted(runs))}")
    else:
        runs, problems = unpack(folder, out)
        print(f"unpacked {', '.join(runs) or 'nothing that is further than what is there'}", flush=True)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    return problems


@contextlib.contextmanager
def _alone(out, dry_run):
    """Context in which no other sweep has the directory."""
    if dry_run:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK)
    try:
        with contextlib.suppress(NotImplementedError):  # this file system knows no locks
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(f"another sweep is at work in {out}: wait for it, stop it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()


def _data_dirs(texts):
    """Places of datasets: a dictionary, the key None of which is for all that are not named."""
    places = {}
    for text in texts:
        name, found, place = text.partition("=")
        known = found and name in DATASETS
        places[name if known else None] = place if known else text
    return places


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
