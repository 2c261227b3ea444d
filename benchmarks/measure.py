"""The measurement: one worker per contender, interleaved short rounds, one process computing at a time."""

import dataclasses
import os
import tempfile

from benchmarks.plan import IMPLEMENTATIONS, Contender
from benchmarks.process import Worker, WorkerError, worker_environment

CALIBRATION_BATCHES = 2
KINDS = ("infer", "train")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a measurement.

    Attributes:
        measures: subset of `benchmarks.plan.MEASURES`.
        batch_size: images per call.
        opens: number of fresh processes per contender, for measures taken once per process.
        rounds: number of rounds of each contender.
        round_seconds: approximate length of a round.
        gpu: whether workers may see accelerators.
        cores: number of CPU cores for each worker; None for all.
        timeout: time limit of one command of a worker in seconds.
    """

    measures: tuple[str, ...] = ("open", "infer", "train", "memory")
    batch_size: int = 128
    opens: int = 3
    rounds: int = 7
    round_seconds: float = 1.0
    gpu: bool = False
    cores: int | None = None
    timeout: float = 1800

    def runs(self, kind):
        """Returns whether "infer" or "train" runs at all, for itself, its first call or its memory."""
        return any(measure in self.measures for measure in (kind, "open", "memory"))


@dataclasses.dataclass
class Result:
    """The results of one contender.

    Attributes:
        contender: `Contender`.
        values: every repeat by measure, in the order of the repeats: "import", "build", "load", "first_infer",
            "first_train" (seconds), "file", "memory_infer", "memory_train" (bytes), "infer", "train" (images per
            second, one value per round).
        batches: number of calls in a round, for "infer" and "train".
        parameters: number of trainable parameters.
        device: name of the accelerator, or "cpu".
        error: one-line message if it failed.
    """

    contender: Contender
    values: dict = dataclasses.field(default_factory=dict)
    batches: dict = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    device: str | None = None
    error: str | None = None

    def add(self, measure, value):
        """Appends a repeat unless the value is None."""
        if value is not None:
            self.values.setdefault(measure, []).append(value)

    def calls(self, kind):
        """Returns whether this contender runs "infer" or "train"."""
        return kind == "infer" or IMPLEMENTATIONS[self.contender.implementation].trains


def start_worker(contender, settings):
    """Starts a fresh process for a contender."""
    return Worker(worker_environment(contender.backend, settings.gpu, settings.cores), settings.timeout)


def measure(contenders, settings, start=start_worker, log=print):
    """Measures contenders side by side. One that fails is skipped from then on.

    Args:
        contenders: list of `Contender`. Those of one network are measured together.
        settings: `Settings`.
        start: function from a contender and the settings to a `Worker`.
        log: function of a line of progress.

    Returns:
        ``(results, order)``: a list of `Result` in the order of the contenders, and all timed rounds as a list of
        dictionaries (kind, round, contender) in the order in which they ran.

    Example:

    >>> measure([], Settings())
    ([], [])
    """
    results, order = [Result(contender) for contender in contenders], []
    for network in dict.fromkeys(contender.network for contender in contenders):
        group = [result for result in results if result.contender.network == network]
        workers = {}
        try:
            _measure_network(group, settings, start, log, workers, order)
        finally:
            for worker in workers.values():
                worker.close()
    return results, order


def _measure_network(group, settings, start, log, workers, order):
    opens = settings.opens if "open" in settings.measures else 1
    with tempfile.TemporaryDirectory() as folder:
        for number in range(opens):
            for result in taking_turns(group, number):
                if result.error is None:
                    log(f"open {number + 1}/{opens}: {result.contender}")
                    own = os.path.join(folder, str(group.index(result)))
                    _attempt(result, log, _open, settings, start, workers, own, number + 1 == opens)
    for kind in KINDS:
        if settings.runs(kind):
            callers = [result for result in group if result.calls(kind)]
            _time_calls(callers, kind, settings, log, workers, order)


def _open(result, settings, start, workers, folder, last):
    """Starts fresh processes and runs the first calls; the last process is kept for training."""
    if "open" in settings.measures:
        result.add("build", _start(result, "build", settings, start, workers, folder)["open"])
        answer = _start(result, "load", settings, start, workers, folder)
        result.add("import", answer["import"])
        result.add("load", answer["open"])
        if last:
            result.add("file", answer["file"])
    else:
        _start(result, "build", settings, start, workers, folder)
    for kind in KINDS:
        if settings.runs(kind) and result.calls(kind) and (kind == "infer" or not last):
            _first_call(result, kind, settings, workers[id(result)])


def _start(result, command, settings, start, workers, folder):
    """Replaces the contender's process by a fresh one with the network, built or loaded."""
    key, contender = id(result), result.contender
    if key in workers:
        workers.pop(key).close()
    workers[key] = worker = start(contender, settings)
    task, batch_size, gpu = contender.task(), settings.batch_size, settings.gpu
    answer = worker.ask(command, task=task, batch_size=batch_size, gpu=gpu, folder=folder)
    result.parameters, result.device = answer["parameters"], answer["device"]
    return answer


def _first_call(result, kind, settings, worker):
    seconds = worker.ask(kind, batches=1)["seconds"]
    if "open" in settings.measures:
        result.add(f"first_{kind}", seconds)


def _time_calls(group, kind, settings, log, workers, order):
    """Measures first training steps, rounds (after calibration) and memory."""

    def alive():
        return [result for result in group if result.error is None]

    for result in alive() if kind == "train" else ():
        log(f"first training step: {result.contender}")
        _attempt(result, log, _first_call, kind, settings, workers[id(result)])
    if kind in settings.measures:
        for result in alive():
            _attempt(result, log, _calibrate, kind, settings, workers[id(result)])
        for number in range(settings.rounds):
            log(f"{kind} {number + 1}/{settings.rounds}")
            for result in taking_turns(alive(), number):
                order.append({"kind": kind, "round": number, "contender": str(result.contender)})
                _attempt(result, log, _turn, kind, settings, workers[id(result)])
    if "memory" in settings.measures:
        for result in alive():
            _attempt(result, log, _memory, kind, workers[id(result)])


def _calibrate(result, kind, settings, worker):
    seconds = worker.ask(kind, batches=CALIBRATION_BATCHES)["seconds"] / CALIBRATION_BATCHES
    result.batches[kind] = max(1, round(settings.round_seconds / seconds))


def _turn(result, kind, settings, worker):
    batches = result.batches[kind]
    seconds = worker.ask(kind, batches=batches)["seconds"]
    result.add(kind, batches * settings.batch_size / seconds)


def _memory(result, kind, worker):
    result.add(f"memory_{kind}", worker.ask("memory")["bytes"])


def _attempt(result, log, action, *arguments):
    """Runs one step of one contender. An error ends that contender, not the measurement."""
    try:
        action(result, *arguments)
    except WorkerError as error:
        result.error = str(error)
        log(f"failed: {result.contender}: {result.error}")


def taking_turns(items, number):
    """Returns the order of round `number`, reversed every second round to avoid a fixed sequence.

    Example:

    >>> taking_turns("abc", 0), taking_turns("abc", 1)
    (['a', 'b', 'c'], ['c', 'b', 'a'])
    """
    return list(items) if number % 2 == 0 else list(items)[::-1]
