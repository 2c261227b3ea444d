"""Compares networks of this package with other implementations of them on this machine.

    python -m benchmarks --networks resnet20 preact_resnet20 --out benchmarks_resnet20
    python -m benchmarks --contenders keras-resv2 torch-compiled --precisions float32 bfloat16 --gpu

Prints a Markdown table. Exit codes: 0 success (failed and skipped contenders are listed); 1 nothing could be measured;
2 bad input.
"""

import argparse
import importlib.util
import os
import pathlib
import shlex
import sys
import time

from benchmarks.machine import load_average, versions
from benchmarks.measure import Settings, measure, start_worker
from benchmarks.plan import BACKENDS, IMPLEMENTATIONS, MEASURES, PRECISIONS, REFERENCE, installed, make_contenders
from benchmarks.plot import draw
from benchmarks.process import Worker, WorkerError, worker_environment
from benchmarks.report import as_json_text, as_markdown
from benchmarks.summary import summarize
from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.argument_checks import check_choice

NO_CORES = "--cores: this system cannot bind processes to cores."
NOTHING_MEASURED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message):
        raise ValueError(message)


def main(argv=None, start=start_worker):
    """Runs the benchmarks; returns the exit code.

    Args:
        argv: list of arguments; None for those of the process.
        start: see `benchmarks.measure.measure`.
    """
    argv = sys.argv[1:] if argv is None else [str(argument) for argument in argv]
    try:
        arguments = _parser().parse_args(argv)
        report = run(arguments, shlex.join(["python", "-m", "benchmarks", *argv]), start)
    except (ValueError, OSError, WorkerError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    print(as_markdown(report), end="")
    return 0 if report["rows"] else NOTHING_MEASURED


def run(arguments, command, start=start_worker):
    """Checks the arguments, measures, and writes the files.

    Args:
        arguments: parsed arguments of the command line.
        command: the command as text, for the report.
        start: see `benchmarks.measure.measure`.

    Returns:
        Dictionary: command, arguments, machine, references (name by network), rows (see
        `benchmarks.summary.summarize`), floors, skipped, results (list of `benchmarks.measure.Result`), order (all
        timed rounds).

    Raises:
        ValueError: if an argument is not a valid choice, or no selected contender can run.
        WorkerError: if the machine could not be described.
    """
    settings = _settings(arguments)
    contenders, skipped = make_contenders(
        arguments.networks, arguments.contenders, arguments.backends, arguments.precisions, settings.gpu
    )
    for contender, reason in skipped:
        _log(f"skipped: {contender}: {reason}")
    if not contenders:
        raise ValueError(f"none of the contenders can run: {'; '.join(f'{c}: {reason}' for c, reason in skipped)}.")
    references = find_references(contenders, arguments.reference, arguments.contenders)
    if arguments.out:
        pathlib.Path(arguments.out).mkdir(parents=True, exist_ok=True)
    machine, floors = _describe_machine(arguments, settings)
    results, order = measure(contenders, settings, start, _log)
    report = {
        "command": command,
        "arguments": vars(arguments),
        "machine": machine,
        "references": {n: f"{c.name}, {c.precision}" for n, c in references.items()},
        "rows": summarize(results, references, floors),
        "floors": floors,
        "skipped": [{"contender": str(contender), "reason": reason} for contender, reason in skipped],
        "results": results,
        "order": order,
    }
    if arguments.out:
        write(report, pathlib.Path(arguments.out))
    return report


def find_references(contenders, name, chosen):
    """Finds the reference contender of each network.

    Args:
        contenders: list of `benchmarks.plan.Contender`.
        name: implementation of the reference; None for stock Keras, or the first one if that cannot run.
        chosen: selected implementations.

    Returns:
        Dictionary from a network to its first contender with that implementation, in float32 if there is one.

    Raises:
        ValueError: if the implementation is not one of those selected.
    """
    if name is not None:
        check_choice("--reference", name, chosen)
    references = {}
    for network in dict.fromkeys(contender.network for contender in contenders):
        group = sorted((c for c in contenders if c.network == network), key=lambda c: c.precision != "float32")
        named = [c for c in group if c.implementation == (name or REFERENCE)]
        if named or name is None:
            references[network] = (named or group)[0]
    return references


def write(report, folder):
    """Writes benchmarks.md, benchmarks.json and, with matplotlib, benchmarks.png into a folder."""
    (folder / "benchmarks.md").write_text(as_markdown(report), encoding="utf-8")
    (folder / "benchmarks.json").write_text(as_json_text(report), encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        draw(report, folder / "benchmarks.png")
    else:
        _log("no benchmarks.png: matplotlib is not installed")


def _describe_machine(arguments, settings):
    """Describes the machine and, on an accelerator, the floors, using a worker, as this process loads no backend."""
    load = load_average()
    backend = next((name for name in (*arguments.backends, *BACKENDS) if installed(name)), None)
    if backend is None:
        raise ValueError(f"none of {', '.join(BACKENDS)} is installed.")
    with Worker(worker_environment(backend, settings.gpu, settings.cores), settings.timeout) as worker:
        machine = {**worker.ask("machine"), "load_average": load, "versions": versions()}
        if not settings.gpu:
            return machine, []
        if machine["accelerator"] is None:
            raise ValueError(f"--gpu: {backend} sees no accelerator.")
        _log("floor: measuring the rates of a copy and of a matrix product")
        networks = [
            {"name": name, "arguments": ARCHITECTURES[name].arguments()} for name in dict.fromkeys(arguments.networks)
        ]
        asked = dict(networks=networks, precisions=arguments.precisions, batch_size=settings.batch_size)
        return machine, worker.ask("floor", **asked)["floors"]


def _settings(arguments):
    for name in ("rounds", "round_seconds", "batch_size", "opens", "timeout"):
        if not getattr(arguments, name) > 0:
            raise ValueError(f"--{name} {getattr(arguments, name):g} must be above 0.")
    if arguments.cores is not None:
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else 0
        if not 1 <= arguments.cores <= here:
            raise ValueError(f"--cores {arguments.cores} must be from 1 to {here}." if here else NO_CORES)
    for name in arguments.measures:
        check_choice("measure", name, MEASURES)
    return Settings(
        tuple(arguments.measures),
        arguments.batch_size,
        arguments.opens,
        arguments.rounds,
        arguments.round_seconds,
        arguments.gpu,
        arguments.cores,
        arguments.timeout,
    )


def _parser():
    parser = Parser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])

    def several(flag, default, choices, help):
        parser.add_argument(flag, nargs="+", default=list(default), metavar="NAME", help=f"{help}: {choices}")

    several("--networks", ("resnet20",), "see `keras-resv2 list --architectures`", "networks")
    several("--contenders", IMPLEMENTATIONS, ", ".join(IMPLEMENTATIONS), "implementations (default: all)")
    several("--precisions", PRECISIONS, ", ".join(PRECISIONS), "precisions (default: both)")
    several("--backends", BACKENDS[:1], ", ".join(BACKENDS), f"Keras backends (default: {BACKENDS[0]})")
    several("--measures", MEASURES, ", ".join(MEASURES), "what to measure (default: all)")
    parser.add_argument("--reference", help="implementation that the ratios refer to (default: stock)")
    for flag, kind, default, help in (
        ("--rounds", int, Settings.rounds, "rounds of each contender"),
        ("--round_seconds", float, Settings.round_seconds, "approximate length of a round"),
        ("--batch_size", int, Settings.batch_size, "images per call"),
        ("--opens", int, Settings.opens, "fresh processes per contender for import, build, load and first calls"),
        ("--timeout", float, Settings.timeout, "seconds after which a contender that does not answer is stopped"),
    ):
        parser.add_argument(flag, type=kind, default=default, help=f"{help} (default: {default})")
    parser.add_argument("--cores", type=int, help="CPU cores for each contender (default: all)")
    parser.add_argument("--out", metavar="DIR", help="write benchmarks.md, .json and .png there")
    parser.add_argument("--gpu", action="store_true", help="run on the accelerator, which is hidden otherwise")
    return parser


def _log(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
