"""The training loop: trains networks by a recipe on batches of a source.

It runs on every Keras backend. A run has a directory for checkpoints, `history.csv` and, at the end, `weights.h5`.
Started again with the same directory, it resumes from the last checkpoint, with the same result as an uninterrupted
run. Several seeds can run through the loop in lockstep (`train_seeds`).
"""

import math
import time

import numpy as np

from train.data.resizing import at_size
from train.devices import ONE_DEVICE
from train.losses import Loss
from train.run_state import Diverged, Progress, RunState
from train.seed_steps import JaxSeedSteps, StepsOfSeed
from train.steps import make_steps

__all__ = ["Diverged", "Progress", "Stopped", "train", "train_seeds"]

SECONDS_PER_DISPATCH = 1.0
STEPS_PER_DISPATCH_OF_PROCESSES = 20


class Stopped(Exception):
    """Raised when the run was asked to stop and its state has been saved."""


def train(
    model, source, measure, recipe, out, *,
    units=None, checkpoint_seconds=60, evaluate_every=5, callbacks=(), stop=lambda: False, devices=ONE_DEVICE,
):  # fmt: skip
    """Trains `model` by `recipe`, resuming from `out` if it contains a checkpoint.

    Args:
        model: a `keras.Model` from raw pixels to logits. Afterwards it has the weights of the last step; if the recipe
            averages weights, `weights.h5` and the test errors are those of the averages.
        source: source of batches: `train.data.device_data.DeviceData` or `train.data.image_stream.TrainStream`.
        measure: function from the network, an object with `predict_on_batch`, to a dictionary of test errors (percent).
        recipe: `train.recipe.Recipe`, with a known number of steps.
        out: directory of the run, shared by all processes.
        units: `train.stochastic_depth.UnitSampler` if `model` is a `SwitchedNetwork`.
        checkpoint_seconds: seconds between checkpoints.
        evaluate_every: epochs between measurements of the test error. The last step is always evaluated. The error is
            only recorded, not used for any selection.
        callbacks: functions called after every dispatch with ``(progress, rate, row)``, where row is the row of the
            history at the end of an epoch, else None.
        stop: function called after every dispatch (about a second) and before evaluations, which returns whether to
            save and stop.
        devices: `train.devices.Devices`.

    Returns:
        `Progress`, with the whole history.

    Raises:
        Diverged: if the loss is NaN or infinite; the last checkpoint is kept.
        Stopped: if `stop` returned true.
        ValueError: if `out` contains a run of another network, or is not shared by all processes.
        OSError: if the disk is full.
        ElsewhereError: if another process raised one of these.
    """
    run = RunState(model, source, measure, recipe, out, devices, callbacks)
    if not devices.agree(run.progress.step):
        raise ValueError(f"the processes found different checkpoints: --out {out} must be a directory they share.")
    sources = {side: at_size(source, side) for _, _, side in recipe.sides()}
    steps = make_steps(model, run.optimizer, sources[recipe.side(run.progress.step)], devices, Loss.from_recipe(recipe))
    run.attach(steps)

    def run_steps(rates, batches, switches):
        steps.use(sources[recipe.side(run.progress.step)])
        return steps.run(rates, *batches, switches)

    _Loop([run], run_steps, recipe, units, stop, devices).run(checkpoint_seconds, evaluate_every, f"in {out}")
    if run.error:
        raise run.error
    return run.progress


def train_seeds(
    models, sources, measures, recipe, outs, *,
    step=None, checkpoint_seconds=60, evaluate_every=5, callbacks=(), stop=lambda: False,
):  # fmt: skip
    """Trains several seeds of a network in one compiled program (JAX), each in its own directory.

    If a seed diverges, the others continue.

    Args:
        models, sources, measures, outs: one argument of `train` for each seed.
        recipe: `train.recipe.Recipe`, with a known number of steps, without averaged weights and resized images.
        step: step of the checkpoints to resume from, which all seeds must have; None or 0 to start from scratch.
        callbacks: list of functions for each seed; empty for none.
        checkpoint_seconds, evaluate_every, stop: see `train`.

    Returns:
        For each seed its `Progress`, or the `Diverged` error that ended it.

    Raises:
        Stopped: if `stop` returned true.
        ValueError: if the seeds differ in network or dataset, or a checkpoint is damaged.
        OSError: if the disk is full.
    """
    step = step or 0
    given = zip(models, sources, measures, outs, callbacks or [()] * len(models), strict=True)
    runs = [
        RunState(model, source, measure, recipe, out, ONE_DEVICE, observers, step)
        for model, source, measure, out, observers in given
    ]
    for run in runs:
        if run.progress.step != step:
            raise ValueError(
                f"{run.out} has no readable checkpoint of step {step}: run the same command again to resume without it."
            )
    optimizers = [run.optimizer for run in runs]
    steps = JaxSeedSteps(models, optimizers, sources, loss=Loss.from_recipe(recipe))
    for index, run in enumerate(runs):
        run.attach(StepsOfSeed(steps, index))

    def run_steps(rates, batches, switches):
        return steps.run(rates, batches)

    where = "in " + ", ".join(str(run.out) for run in runs)
    _Loop(runs, run_steps, recipe, None, stop, ONE_DEVICE).run(checkpoint_seconds, evaluate_every, where)
    return [run.error or run.progress for run in runs]


class _Loop:
    """The loop of one run, or of several runs at the same step.

    Args:
        runs: list of `RunState`.
        run_steps: function from the rates, the batches of each run and the switches of units to losses and accuracies:
            ``(runs, steps)``, or ``(steps,)`` for one run.
    """

    def __init__(self, runs, run_steps, recipe, units, stop, devices):
        self._all, self._active, self._run_steps = runs, list(runs), run_steps
        self._recipe, self._units, self._stop, self._devices = recipe, units, stop, devices
        source = runs[0].source
        # All processes must run the same number of steps, whatever their clocks say.
        self._fixed_steps_per_dispatch = devices.processes > 1
        fixed = min(STEPS_PER_DISPATCH_OF_PROCESSES, source.max_steps_per_dispatch)
        self._steps_per_dispatch = fixed if self._fixed_steps_per_dispatch else 1
        self._most_steps = source.max_steps_per_dispatch
        self._steps_per_epoch = math.ceil(source.images_per_epoch / recipe.batch_size)

    def run(self, checkpoint_seconds, evaluate_every, where):
        """Runs to the end, or until all runs have diverged. `Stopped` is raised with `where` the state is saved."""
        step = self._all[0].progress.step
        rate, dispatched = self._recipe.learning_rate(max(step - 1, 0)), False
        while self._active:
            step = self._active[0].progress.step
            stopping = self._devices.any(self._stop())
            due = any(run.lacks_test_error(evaluate_every) for run in self._active)
            if due and not stopping:
                self._each(RunState.save, rate)  # an evaluation may take long
                self._each(RunState.measure, evaluate_every, rate)
            if dispatched or due:
                self._each(RunState.report, rate)
            if stopping and (due or step < self._recipe.steps):
                self._each(RunState.save, rate)
                raise Stopped(f"stopped after step {step}, saved {where}: run the same command to resume.")
            if step == self._recipe.steps:
                self._each(RunState.finish, rate)
                return
            if self._devices.any(any(run.is_due(checkpoint_seconds) for run in self._active)):
                self._each(RunState.save, rate)
            if self._active:
                rate, dispatched = self._dispatch(), True

    def _each(self, method, *arguments):
        """Calls a method of every run that has not diverged."""
        for run in list(self._active):
            try:
                method(run, *arguments)
            except Diverged:
                self._active.remove(run)

    def _dispatch(self):
        """Runs steps for about a second, at most to the end of the epoch; returns the last learning rate."""
        begun, before = time.monotonic(), self._active[0].progress.step
        epoch = before // self._steps_per_epoch + 1
        end = min(epoch * self._steps_per_epoch, self._recipe.steps)
        first, last = next((first, last) for first, last, _ in self._recipe.sides() if before < last)
        if before == first and not self._fixed_steps_per_dispatch:  # images of another size take another time
            self._steps_per_dispatch = 1
        count = min(self._steps_per_dispatch, end - before, last - before, *(run.ready for run in self._all))
        rates = [self._recipe.learning_rate(before + i) for i in range(count)]
        switches = self._units and [self._units.draw(before + i) for i in range(count)]
        results = self._run_steps(rates, [run.take(count) for run in self._all], switches)
        for run in self._all:
            run.draw(self._steps_per_dispatch)  # on JAX while the accelerator is busy
        losses, corrects = (np.asarray(values).reshape(len(self._all), -1)[:, :count] for values in results)
        results = dict(zip(self._all, zip(losses, corrects, strict=True), strict=True))
        self._each(lambda run: run.add(*results[run], rates))
        if not self._fixed_steps_per_dispatch:  # at most doubled, because the first dispatch includes compilation
            wanted = SECONDS_PER_DISPATCH * count / (time.monotonic() - begun)
            self._steps_per_dispatch = int(np.clip(wanted, 1, min(2 * self._steps_per_dispatch, self._most_steps)))
        for run in self._active:
            if run.progress.step == end:
                run.progress.end_epoch(epoch, rates[-1])
            run.update_seconds()
        return rates[-1]
