"""Compares exported formats of pretrained networks, in their own runtimes, with Keras: error, size and speed.

python -m benchmarks.exports --data_dir cifar10.npz --out exports.md
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys
import tempfile
import time

from benchmarks.machine import load_average, versions
from benchmarks.measure import taking_turns
from benchmarks.process import Worker, WorkerError, worker_environment
from keras_resv2.argument_checks import one_line
from keras_resv2.data import load_split
from keras_resv2.files import check_parent
from keras_resv2.pretrained import pretrained_card

NAMES = ("resnet20-cifar10", "preact_resnet20-cifar10", "resnet32-cifar10")
IN_KERAS = ("Keras", "Keras, folded")
# Format and precision. The first word is its name in `keras_resv2.exporting.inference_backends`.
EXPORTED = {
    "saved_model": "float32",
    "tflite float32": "float32",
    "tflite float16": "float16",
    "tflite int8": "int8",
    "onnx": "float32",
}
BATCH_SIZES = (1, 64)
WORKER = (sys.executable, "-m", "benchmarks.exports_worker")
REPRESENTATIVE_IMAGES = 500
TEST_IMAGES = 10_000
PACKAGES = ("ai-edge-litert", "onnx")


@dataclasses.dataclass
class Result:
    """The results of one format of one network.

    Attributes:
        name: pretrained name with its version.
        form: one of `IN_KERAS` or `EXPORTED`.
        path: path of the exported file or folder; None for Keras.
        size: size on disk in bytes.
        wrong, images: number of misclassified test images, and of test images; None if not measured.
        rates: images per second by batch size, one value per round.
        error: one-line message if it failed.
        dataset, shape: name of the dataset, and shape of one image.
    """

    name: str
    form: str
    path: str | None
    size: int
    wrong: int | None = None
    images: int | None = None
    rates: dict = dataclasses.field(default_factory=dict)
    error: str | None = None
    dataset: str = "cifar10"
    shape: tuple[int, ...] = (32, 32, 3)


def main(argv=None):
    """Runs the measurement and writes the table; returns the exit code."""
    arguments = parse(argv)
    load = load_average()
    results = []
    try:
        if arguments.out:
            check_parent(pathlib.Path(arguments.out))
        for dataset in {pretrained_card(name).dataset for name in arguments.names}:  # before anything is measured
            load_split(dataset, "test", arguments.data_dir)
        with Worker(worker_environment("tensorflow")) as worker:
            machine = {**worker.ask("machine"), "load_average": load, "versions": versions(PACKAGES)}
        for name in arguments.names:
            with tempfile.TemporaryDirectory() as folder:
                results += measure(write_forms(name, arguments.data_dir, folder), arguments)
    except (ValueError, OSError, ImportError, WorkerError) as error:
        print(f"python -m benchmarks.exports: error: {one_line(error)}", file=sys.stderr)
        return 2
    text = as_markdown(results, machine, arguments, " ".join(["python -m benchmarks.exports", *(argv or sys.argv[1:])]))
    print(text, end="")
    if arguments.out:
        pathlib.Path(arguments.out).write_text(text, encoding="utf-8")
    return 1 if any(result.error for result in results) else 0


def parse(argv=None):
    """Parses and checks the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__.partition("\n")[0])
    parser.add_argument("--names", nargs="+", default=list(NAMES), metavar="NAME", help="pretrained networks")
    parser.add_argument("--data_dir", required=True, help="tensorflow-datasets directory, or .npz file")
    parser.add_argument(
        "--images", type=int, default=TEST_IMAGES, help="use only the first N test images (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of each format; 0 to measure only errors (default: 7)"
    )
    parser.add_argument("--round_seconds", type=float, default=1.0, help="approximate length of a round (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each process (default: 2)")
    parser.add_argument("--out", metavar="FILE", help="write the Markdown there")
    arguments = parser.parse_args(argv)
    if arguments.images < 1 or arguments.rounds < 0 or arguments.threads < 1 or not arguments.round_seconds > 0:
        parser.error("--images, --threads and --round_seconds must be above 0, and --rounds at least 0.")
    return arguments


def write_forms(name, data_dir, folder):
    """Exports a pretrained network in every format; returns a list of `Result` without measurements."""
    import keras_resv2

    card = pretrained_card(name)
    name = card.full_name  # with the version, as one specific file is measured
    train_images = load_split(card.dataset, "train", data_dir)[0][:REPRESENTATIVE_IMAGES]
    model = keras_resv2.from_pretrained(name)
    of_network = {"dataset": card.dataset, "shape": card.image_shape}
    results = [Result(name, form, None, card.size, **of_network) for form in IN_KERAS]
    for form, precision in EXPORTED.items():
        _log(f"export: {name} as {form}")
        path = os.path.join(folder, form.replace(" ", "_"))
        options = {"representative": train_images} if precision == "int8" else {}
        try:
            exported = keras_resv2.export(model, path, form.partition(" ")[0], precision=precision, **options)
        except (ValueError, OSError, ImportError) as error:  # the others are measured all the same
            results.append(Result(name, form, path, 0, **of_network, error=one_line(error)))
        else:
            results.append(Result(name, form, path, exported.size, **of_network))
    return results


def measure(results, arguments):
    """Measures errors, then interleaved rounds, with each format in its own process.

    Args:
        results: list of `Result` of one network.
        arguments: parsed arguments of the command line.

    Returns:
        `results` with measurements.
    """
    workers = {}
    try:
        for result in results:
            environment = worker_environment("tensorflow", cores=arguments.threads)
            workers[id(result)] = worker = Worker(environment, command=WORKER)
            _log(f"error: {result.name} as {result.form}")
            _attempt(result, _measure_error, worker, arguments)
        for size in BATCH_SIZES if arguments.rounds else ():
            batches = {}
            for result in results:
                _attempt(result, _calibrate, workers[id(result)], size, arguments.round_seconds, batches)
            for number in range(arguments.rounds):
                _log(f"batches of {size}, round {number + 1}/{arguments.rounds}")
                for result in taking_turns(results, number):
                    _attempt(result, _turn, workers[id(result)], size, batches)
    finally:
        for worker in workers.values():
            worker.close()
    return results


def _measure_error(result, worker, arguments):
    worker.ask("open", form=result.form, path=result.path, name=result.name, threads=arguments.threads)
    answer = worker.ask("error", dataset=result.dataset, data_dir=arguments.data_dir, images=arguments.images)
    result.wrong, result.images = answer["wrong"], answer["images"]


def _calibrate(result, worker, size, seconds, batches):
    worker.ask("run", batch_size=size, batches=2, shape=result.shape)  # compiles, and sets the shape
    taken = worker.ask("run", batch_size=size, batches=5, shape=result.shape)["seconds"] / 5
    batches[id(result)] = max(1, round(seconds / taken))


def _turn(result, worker, size, batches):
    count = batches[id(result)]
    taken = worker.ask("run", batch_size=size, batches=count, shape=result.shape)["seconds"]
    result.rates.setdefault(size, []).append(count * size / taken)


def _attempt(result, action, *arguments):
    """Runs one step of one format. An error ends that format, not the measurement."""
    if result.error is None:
        try:
            action(result, *arguments)
        except WorkerError as error:
            result.error = str(error)
            _log(f"failed: {result.name} as {result.form}: {result.error}")


def as_markdown(results, machine, arguments, command):
    """Formats the results: machine and settings, a table, failures.

    Args:
        results: list of `Result`.
        machine: result of `benchmarks.machine.describe`, with load_average and versions.
        arguments: parsed arguments of the command line.
        command: the command as text.

    Returns:
        Markdown text.
    """
    load = "unknown" if machine["load_average"] is None else f"{machine['load_average']:.1f}"
    found = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    columns = ["network", "form", "error", "file", *(f"images/s, batch {size}" for size in BATCH_SIZES)]
    lines = [
        "# Exported networks in their own runtimes",
        "",
        f"{machine['hardware']}, {machine['system']}; commit {machine['commit']}; {found}.",
        f"`{command}`",
        f"{arguments.threads} threads each; medians of {arguments.rounds} rounds of about "
        f"{arguments.round_seconds:g} s in turn; load average before the start: "
        f"{load}. Errors on {results[0].images or 0:,} test images, one view per image; "
        f"int8 calibrated on {REPRESENTATIVE_IMAGES} training images.",
        "",
        f"| {' | '.join(columns)} |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        error = "-" if result.wrong is None else f"{100 * result.wrong / result.images:.2f} %"
        rates = [f"{statistics.median(result.rates[n]):,.0f}" if result.rates.get(n) else "-" for n in BATCH_SIZES]
        cells = [f"`{result.name}`", result.form, error, f"{result.size / 1e6:.2f} MB", *rates]
        lines.append(f"| {' | '.join(cells)} |")
    failed = [f"- {result.name} as {result.form}: {result.error}" for result in results if result.error]
    return "\n".join(lines + (["", "Failed:", "", *failed] if failed else [])) + "\n"


def _log(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
