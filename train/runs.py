"""Runs of `train.train`: one or several seeds, from configuration to run.json and curve."""

import contextlib
import math
import signal
import statistics
from typing import NamedTuple

import keras

from keras_resv2.files import write_json
from keras_resv2.startup import print_stderr
from train import loop
from train.callbacks import ProgressDisplay, draw_curve, tensorboard
from train.prepare import Prepared, prepare
from train.run_dir import file_lock, start_record
from train.run_files import DIVERGED, RUN_FILE, WALL_SECONDS, WEIGHTS, checkpoint_step, newest_checkpoints


class _OpenRun(NamedTuple):
    """A run whose directory is locked and whose run.json has been written.

    Attributes:
        config: `train.config.RunConfig`.
        prepared: `train.prepare.Prepared`.
        record: run.json.
        callbacks: callbacks of the loop.
    """

    config: object
    prepared: Prepared
    record: dict
    callbacks: list


def train(config, devices, stop=lambda: False):
    """Trains one network.

    Args:
        config: `train.config.RunConfig`.
        devices: `train.devices.Devices`.
        stop: see `train.loop.train`.

    Returns:
        Test error of the last step in percent.
    """
    with devices.scope(), _open_run(config, devices) as run:
        recipe, data, model, units, _ = run.prepared
        if devices.main and hasattr(data.source, "speed"):
            print(f"input pipeline on its own: {data.source.speed(steps=5):,.0f} images/s", flush=True)
        try:
            progress = loop.train(
                model, data.source, data.measure, recipe, config.out, units=units,
                checkpoint_seconds=config.checkpoint_seconds, evaluate_every=config.evaluate_every,
                callbacks=run.callbacks, stop=stop, devices=devices,
            )  # fmt: skip
        except loop.Diverged as error:
            progress = error
        return _close_run(run, progress, devices)


def train_seeds(config, count, devices, together=None):
    """Trains several seeds, each in its own directory, and prints their median error.

    If a seed diverges, the others continue; it counts as the highest error.

    Args:
        config: `train.config.RunConfig` of the first seed.
        count: number of seeds.
        devices: `train.devices.Devices`.
        together: whether to train them in one compiled program (JAX); None to do so on an accelerator if possible.

    Raises:
        ValueError: if `together` is true but the run does not support it.
    """
    configs = {seed: config.for_seed(seed) for seed in range(config.seed, config.seed + count)}
    reason = why_apart(config, devices)
    if together and reason:
        raise ValueError(f"--seeds_together: {reason}.")
    if together is None:
        together = reason is None and _on_accelerator()
    errors = {}
    with stop_signals() as stop:
        seeds, step = seeds_at_one_step(configs) if together else ([], 0)
        if len(seeds) > 1:
            found = _train_together([configs[seed] for seed in seeds], devices, step, stop)
            errors.update(zip(seeds, found, strict=True))
        for seed in [seed for seed in configs if seed not in errors]:
            if devices.any(stop()):
                raise loop.Stopped(f"stopped before seed {seed}: run the same command to resume.")
            keras.utils.clear_session()
            errors[seed] = _error_of(seed, train, configs[seed], devices, stop)
    if devices.main:
        _print_median([errors[seed] for seed in configs])


def why_apart(config, devices):
    """Returns why seeds of a run cannot be trained in one program, or None if they can.

    Args:
        config: `train.config.RunConfig`.
        devices: `train.devices.Devices`.

    Returns:
        Text or None.
    """
    recipe = config.values
    reasons = {
        "training several seeds in one program requires JAX: set KERAS_BACKEND=jax": keras.backend.backend() != "jax",
        "training several seeds in one program requires a single device": devices.count > 1 or devices.processes > 1,
        "rolled networks are trained one seed after another": bool(config.forms),
        "runs that skip units are trained one seed after another": recipe.leaves_units_out,
        "runs with averaged weights are trained one seed after another": bool(recipe.average),
        "runs on images from disk are trained one seed after another": recipe.crop == "scale",
        "runs on resized images are trained one seed after another": recipe.image_size is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def seeds_at_one_step(configs):
    """Finds the largest set of seeds that can resume from the same step, and that step.

    Seeds that were stopped together have checkpoints of the same step; one that diverged or was trained alone may have
    others.

    Args:
        configs: dictionary from seed to `train.config.RunConfig`.

    Returns:
        ``(seeds, step)``: a list in the order of `configs`, and the highest such step; 0 to start from scratch.
    """
    at = {}
    for seed, config in configs.items():
        for step in {checkpoint_step(path) for path in newest_checkpoints(config.out)} or {0}:
            at.setdefault(step, []).append(seed)
    step = max(at, key=lambda step: (len(at[step]), step))
    return at[step], step


def _train_together(configs, devices, step, stop):
    """Returns the test error of each seed, infinite if it diverged."""
    with contextlib.ExitStack() as stack:
        runs = []
        for index, config in enumerate(configs):
            keras.utils.clear_session()
            runs.append(stack.enter_context(_open_run(config, devices, len(configs), index == 0)))
        print(f"{len(runs)} seeds in one program", flush=True)
        of_all = [run.prepared for run in runs]
        found = loop.train_seeds(
            [prepared.model for prepared in of_all],
            [prepared.data.source for prepared in of_all],
            [prepared.data.measure for prepared in of_all],
            of_all[0].recipe,
            [config.out for config in configs],
            step=step,
            checkpoint_seconds=configs[0].checkpoint_seconds,
            evaluate_every=configs[0].evaluate_every,
            callbacks=[run.callbacks for run in runs],
            stop=stop,
        )
        pairs = zip(runs, found, strict=True)
        return [_error_of(run.config.seed, _close_run, run, progress, devices) for run, progress in pairs]


def _error_of(seed, function, *arguments):
    """Returns the test error returned by a function; infinite, with a message, if the run diverged."""
    try:
        return function(*arguments)
    except loop.Diverged as error:
        print_stderr(f"seed {seed}: {error}")
        return math.inf


def _on_accelerator():
    import jax

    return jax.default_backend() != "cpu"


def _print_median(errors):
    shown = ", ".join(f"{error:.2f}" if error < math.inf else "diverged" for error in errors)
    median = statistics.median(errors)
    median = f"{median:.2f} %" if median < math.inf else "diverged"
    print(f"test error, median of {len(errors)} seeds: {median} ({shown})")


@contextlib.contextmanager
def _open_run(config, devices, seeds=1, with_bar=True):
    """Context manager of an `_OpenRun`.

    Args:
        seeds: number of seeds that share the device in one program.
        with_bar: whether to show a progress bar on a terminal, which supports only one.
    """
    prepared = prepare(config, devices)
    config.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file_lock(config.out, devices))
        record, callbacks = _start_record(config, prepared, devices, seeds), []
        if devices.main:
            label = f"seed {config.seed}" if seeds > 1 else ""
            callbacks.append(stack.enter_context(ProgressDisplay(prepared.recipe, label, with_bar)))
            if config.tensorboard:
                callbacks.append(stack.enter_context(tensorboard(config.tensorboard)))
        yield _OpenRun(config, prepared, record, callbacks)


def _start_record(config, prepared, devices, seeds):
    """Writes run.json in the main process; all processes stop if it is rejected."""
    settings = config.settings(prepared.recipe, prepared.data, prepared.teacher)
    with devices.sync_errors(ValueError, OSError):
        if devices.main:
            return start_record(config.out, settings, config.command(), devices, seeds)


def _close_run(run, progress, devices):
    """Writes run.json and curve of a finished run; returns its test error, or raises `train.loop.Diverged`."""
    config = run.config
    if isinstance(progress, loop.Diverged):
        if devices.main:
            write_json(config.out / RUN_FILE, {**run.record, DIVERGED: progress.step})
        raise progress
    last = progress.history[-1]
    if devices.main:
        errors = {f"{name}_at_end": error for name, error in last.items() if name.startswith("test_error")}
        write_json(config.out / RUN_FILE, {**run.record, WALL_SECONDS: round(progress.seconds, 1), **errors})
        try:
            draw_curve(progress.history, config.out / "curve.png", f"{config.model}, {config.dataset}, {config.recipe}")
        except ImportError:
            print("matplotlib is not installed: train.publish draws the curve.")
        print(f"test error {last['test_error']:.2f} %; {config.out / WEIGHTS}")
    return last["test_error"]


@contextlib.contextmanager
def stop_signals():
    """Context manager that turns SIGTERM and Ctrl-C into a request to stop; a second signal acts as usual.

    Signals that are ignored, as Ctrl-C in the background of a shell, stay so.
    """
    asked = []

    def ask(number, frame):
        asked.append(number)
        signal.signal(number, before[number])

    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
