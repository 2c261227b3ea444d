"""The plan of a run, with an estimate of its time from a few measured steps."""

import contextlib
import itertools
import math
import time

import numpy as np

from keras_resv2.models.flops import count_multiply_adds
from train.data.resizing import at_size, side_in_pixels
from train.devices import ONE_DEVICE
from train.environment import environment
from train.loop import STEPS_PER_DISPATCH_OF_PROCESSES
from train.losses import Loss
from train.memory import peak_bytes
from train.optimizer import make_optimizer
from train.roofline import roofline
from train.steps import make_steps

MEASURED_SECONDS = 10


def describe(name, arguments, dataset, data, recipe, model):
    """Describes data, schedule, optimizer and size of a run in lines of text.

    Args:
        name: name of the architecture.
        arguments: non-default arguments of the network.
        dataset: name of the dataset.
        data: `train.data.inputs.Input`.
        recipe: `train.recipe.Recipe`, with a known number of steps.
        model: the network.
    """
    here, model = environment(), getattr(model, "network", model)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    copies = 3 if recipe.average else 2  # with momentum
    state = 4 * (copies * parameters + sum(math.prod(v.shape) for v in model.non_trainable_variables))
    rates = [f"{recipe.learning_rate(step):g} at step {step:,}" for step in _corners(recipe)]
    crop = f"shift by up to {recipe.pad} ({recipe.pad_mode} padding)" if recipe.crop == "shift" else "scale and aspect"
    lines = {
        "network": f"{name} {arguments or ''}".strip(),
        "size": f"{parameters:,} parameters{_cost(model)}",
        "data": f"{dataset}: {data.train_images:,} training images, {data.test_images:,} test images",
        "steps": f"{recipe.steps:,} of {recipe.batch_size} images, "
        f"{recipe.steps * recipe.batch_size / data.train_images:.1f} epochs",
        "learning rate": ", ".join(rates) + (f", {recipe.interpolate} between" if recipe.interpolate else ""),
        "optimizer": f"SGD, momentum {recipe.momentum:g}{' (Nesterov)' if recipe.nesterov else ''}, "
        f"L2 {recipe.weight_decay:g} on {'all weights' if recipe.decay == 'all' else 'kernels'}",
        "augmentation": ", ".join([crop, f"flip {recipe.flip}", *_mixing(recipe)]),
        "image size": _sides(recipe, data.image_shape[:2]),
        "units": _units(recipe),
        **_targets(recipe),
        "precision": recipe.dtype,
        "runs on": f"{here['backend']}, {here['hardware']}",
        "checkpoint": f"{state / 1e6:.1f} MB",
    }
    return "\n".join(f"{title:16}{text}" for title, text in lines.items() if text)


def time_steps(source, recipe, model, units=None, devices=ONE_DEVICE, seeds=None):
    """Times a few steps with a temporary optimizer, and estimates the duration of the whole run.

    Args:
        source: source of batches.
        recipe: `train.recipe.Recipe`, with a known number of steps.
        model: the network; its weights are changed.
        units: see `train.loop.train`; the timed steps are spread over the whole run.
        devices: `train.devices.Devices`.
        seeds: number of networks to train one after another; None for one.

    Returns:
        Lines of text: the speed of the input pipeline on its own if there is one, the speed of training, a lower bound
        of the step time from the device's peak rates (for images of a fixed size), and the time of the whole run
        without evaluation.
    """
    lines = {}
    if hasattr(source, "speed"):
        lines["input pipeline"] = f"{source.speed(steps=5):,.0f} images/s"
    optimizer = make_optimizer(recipe, model.trainable_variables)
    sides = recipe.sides()
    steps = make_steps(model, optimizer, at_size(source, sides[0][2]), devices, Loss.from_recipe(recipe))
    total, compiled, measured = 0.0, [], []
    for begin, end, side in sides:
        steps.use(at_size(source, side))
        first, seconds = _time_steps(steps, source, recipe, units, devices, begin, end)
        total += first + (end - begin) * seconds
        compiled.append(f"{first:.1f} s")
        pixels = f" of {side_in_pixels(side, source.image_size)} pixels" if len(sides) > 1 else ""
        rate = recipe.batch_size / seconds
        measured.append(f"{1000 * seconds:.1f} ms a step{pixels}, {rate:,.0f} images/s")
    lines["first step"] = f"{'; '.join(compiled)}, compilation included"
    lines["measured"] = "; ".join(measured)
    if peak := peak_bytes():
        lines["memory"] = f"{peak / 1e9:.2f} GB peak main memory so far"
    model = getattr(model, "network", model)
    if None not in model.input_shape[1:]:
        with contextlib.suppress(ValueError):  # of layers whose work is not known, in custom shortcuts
            lines["roofline"] = _roofline(model, recipe, devices.count)
    of_seeds = f" for {seeds} seeds, one after another" if seeds else ""
    takes = _time((seeds or 1) * total)
    lines["training takes"] = f"{takes}{of_seeds}, plus the evaluations of the test error"
    return "\n".join(f"{title:16}{text}" for title, text in lines.items())


def _time_steps(steps, source, recipe, units, devices, begin, end):
    """Returns the seconds of the first step, with compilation, and of a later one, for images of one size."""
    batches = _repeated(source, begin, end)

    def run(count):
        started = time.monotonic()
        switches = units and [units.draw(int(step)) for step in np.linspace(begin, end - 1, count)]
        losses, _ = steps.run([recipe.learning_rate(0)] * count, list(itertools.islice(batches, count)), switches)
        np.asarray(losses)  # waits for the results
        return time.monotonic() - started

    first, second = run(1), run(1)
    # All processes must run the same number of steps, whatever their clocks say.
    wanted = STEPS_PER_DISPATCH_OF_PROCESSES if devices.processes > 1 else int(MEASURED_SECONDS / second)
    count = max(1, min(source.max_steps_per_dispatch, end - begin, wanted))
    if 1 < steps.block <= count:
        run(steps.block)  # compiles the loop
    return first, run(count) / count


def _repeated(source, begin, end):
    """Yields the batches of steps `begin` to `end` again and again."""
    while True:
        yield from itertools.islice(source.batches(begin), end - begin)


def _sides(recipe, image_size):
    """Describes the sizes of the training images, if the recipe has any."""
    sides = [(first, side and side_in_pixels(side, image_size)) for first, _, side in recipe.sides()]
    changes = "".join(f", {later} from step {first:,}" for first, later in sides[1:])
    return f"{sides[0][1]} pixels{changes}" if sides[0][1] else ""


def _units(recipe):
    """Describes which units each batch trains, if not all."""
    if recipe.survival is not None:
        return f"each batch skips some: the last unit is used with probability {recipe.survival:g}"
    changes = [f"{count} from step {recipe.first_step(part):,}" for part, count in recipe.unit_counts()]
    return f"random ones in each batch: {', '.join(changes)}" if changes else ""


def _mixing(recipe):
    """Describes augmentation other than crop and flip."""
    if recipe.cutout:
        yield f"cutout of {recipe.cutout} pixels"
    if recipe.mixup:
        yield f"mixup with alpha {recipe.mixup:g}"


def _targets(recipe):
    """Describes training targets other than the labels, and averaging of weights."""
    lines = {}
    if recipe.label_smoothing:
        lines["labels"] = f"smoothed by {recipe.label_smoothing:g}"
    if recipe.teacher:
        lines["teacher"] = f"{recipe.teacher}, temperature {recipe.temperature:g}, weight {recipe.teacher_weight:g}"
    if recipe.average:
        decay = f", decay {recipe.average_decay:g}" if recipe.average == "ema" else ""
        lines["result"] = f"weights averaged ({recipe.average}{decay}) from step {recipe.first_averaged_step + 1:,} on"
    return lines


def _cost(model):
    if None in model.input_shape[1:]:
        return ""
    try:
        return f", {count_multiply_adds(model) / 1e6:,.1f} million multiply-adds per image"
    except ValueError:  # of a custom shortcut with other layers than convolutions
        return ""


def _roofline(model, recipe, devices):
    least = roofline(model, recipe.batch_size // devices, recipe.dtype.removeprefix("mixed_"))
    return (
        f"{1000 * least['seconds']:.1f} ms a step: {least['operations'] / 1e9:,.0f} GFLOP at "
        f"{least['operations_per_second'] / 1e12:.3g} TFLOP/s, {least['bytes'] / 1e9:.2g} GB at "
        f"{least['bytes_per_second'] / 1e9:,.0f} GB/s"
    )


def _corners(recipe):
    """Returns the steps at which the learning rate schedule has corners or jumps."""
    corners = {recipe.first_step(part) for part, _ in recipe.schedule} | {0, recipe.warmup_steps}
    return sorted(min(corner, recipe.steps - 1) for corner in corners)


def _time(seconds):
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
