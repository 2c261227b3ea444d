"""Trains a network of the zoo.

    python -m train.train --model preact_resnet20 --dataset cifar10 --data_dir cifar10.npz \
        --recipe fast --seed 0 --out runs/preact_resnet20-0

--data_dir is a tensorflow-datasets directory or an .npz file with x_train, y_train, x_test, y_test;
without it tensorflow-datasets downloads the dataset. --dataset arrays takes an .npz file of any images. With
--recipe imagenet --data_dir is a tensorflow-datasets directory, or a folder with train/ and test/ (or val/) that
hold a folder of images per class. --out holds all that
the run leaves: run.json (settings, versions, dataset), history.csv, curve.png, checkpoints, and weights.h5
at the end. The same command on the same --out resumes a run that was cut off. SIGTERM and Ctrl-C save
first. --dry_run prints the plan, with the time that it will take, and writes nothing.
"""

import contextlib
import dataclasses
import math
import pathlib
import signal
import statistics
import sys
from typing import NamedTuple

import keras
from absl import app, flags

from keras_resv2.architectures import build
from keras_resv2.data import DATASETS
from train import loop
from train.callbacks import ProgressDisplay, draw_curve, tensorboard
from train.config import ARGUMENTS, FORMS, RECIPE_FLAGS, RunConfig
from train.data.inputs import Input, open_input
from train.data.mixing import MixedBatches
from train.devices import ElsewhereError, check_recipe, make_deterministic, sync_batch_norm, use_devices
from train.distillation import DistilledBatches, open_teacher, pinned
from train.dry_run import describe, time_steps
from train.environment import slow_precision
from train.initial_weights import find_weights, set_initial_weights
from train.recipes import RECIPES, Recipe
from train.run_dir import file_lock, start_record
from train.run_files import DIVERGED, RUN_FILE, WEIGHTS, pixels_of_older_run, write_json
from train.stochastic_depth import SwitchedNetwork, UnitSampler

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Network: a name that `keras-resv2 list --architectures` shows.")
flags.DEFINE_enum(
    "dataset", "cifar10", list(DATASETS), "What to train on; arrays: any .npz file, folder: any folder of images."
)
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of images.")
flags.DEFINE_enum("recipe", "fast", list(RECIPES), "A row of train/recipes.py; the flags below replace its values.")
flags.DEFINE_string("out", None, "Folder of the run. Resumes if it holds an unfinished one.")
flags.DEFINE_integer("seed", 0, "Of the initial weights, the order of images and augmentation.", lower_bound=0)
flags.DEFINE_integer("seeds", None, "Train so many, from --seed on, and print the median.", lower_bound=1)
flags.DEFINE_integer("steps", None, "Updates of the weights.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images per step, over all devices.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Highest rate; the others change with it.", lower_bound=0)
flags.DEFINE_float("weight_decay", None, "L2 factor.", lower_bound=0)
flags.DEFINE_integer("image_size", None, "Side of the training crops of --recipe imagenet.", lower_bound=1)
flags.DEFINE_enum("dtype", None, ["float32", "mixed_bfloat16", "mixed_float16"], "Precision of the layers.")
flags.DEFINE_multi_string("set", [], "Any value of the recipe, as --set flip=random; may be repeated.")
flags.DEFINE_string("activation", None, "Order of BN and ReLU (Fig. 4), where it is not the model's own.")
flags.DEFINE_string("shortcut", None, "Shortcut (Fig. 2), for example 'exclusive_gating(bias=-6)'.")
flags.DEFINE_enum("projection", None, ["A", "B", "C"], "Shortcut where the size changes.")
flags.DEFINE_enum("stride_on", None, ["1x1", "3x3"], "Convolution of a bottleneck that takes the stride.")
flags.DEFINE_enum("stem", None, ["cifar", "imagenet"], "First layers; 'cifar' for small pictures.")
flags.DEFINE_string("initial_weights", None, "Start from these: a pretrained name, run directory or weight file.")
flags.DEFINE_bool("rolled", False, "Run the units of a stage as a loop, which compiles fast however deep it is.")
flags.DEFINE_bool("rematerialize", False, "With --rolled: save memory by computing units again on the way back.")
flags.DEFINE_integer("units_per_batch", None, "Random units that each batch trains; the others are skipped.")
flags.DEFINE_bool("resize", False, "Resize images of another size to the dataset's.")
flags.DEFINE_bool("cache", False, "Keep picture files in memory once they were read.")
flags.DEFINE_integer("evaluate_every", 5, "Epochs between measurements of the test error.", lower_bound=1)
flags.DEFINE_integer("checkpoint_seconds", 60, "Seconds between checkpoints.", lower_bound=0)
flags.DEFINE_string("tensorboard", None, "Folder for TensorBoard's event files.")
flags.DEFINE_integer("devices", 1, "Accelerators of this machine to train on.", lower_bound=1)
flags.DEFINE_string("processes", None, "JAX on several machines: ADDRESS:PORT,NUMBER,INDEX. TensorFlow: TF_CONFIG.")
flags.DEFINE_bool("dry_run", False, "Print the plan, time a few steps, and stop.")

STOPPED = 128 + signal.SIGTERM  # exit status of a run that saved and stopped when asked


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not FLAGS.model or not (FLAGS.out or FLAGS.dry_run):
        raise app.UsageError("--model and --out are needed.")
    try:
        config = config_from_flags()
        devices = use_devices(FLAGS.devices, FLAGS.processes)
        make_deterministic()
        if FLAGS.dry_run:
            dry_run(config, devices, FLAGS.seeds)
        elif FLAGS.seeds is None:
            with _stop_signals() as stop:
                train(config, devices, stop)
        else:
            train_seeds(config, FLAGS.seeds, devices)
    except loop.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)
    except (ValueError, OSError, ImportError, FloatingPointError, ElsewhereError) as error:
        sys.exit(f"error: {error}")


def config_from_flags():
    """The `RunConfig` that the flags describe.

    Raises:
        ValueError: a model or a recipe value does not exist, or values do not go together.
    """
    recipe = RECIPES[FLAGS.recipe].with_values(FLAGS.set, **_set_flags(RECIPE_FLAGS))
    if FLAGS.learning_rate is not None:
        recipe = recipe.with_peak(FLAGS.learning_rate)
    if recipe.teacher:
        recipe = dataclasses.replace(recipe, teacher=pinned(recipe.teacher))
    return RunConfig(
        model=FLAGS.model,
        recipe=FLAGS.recipe,
        values=recipe,
        dataset=FLAGS.dataset,
        arguments=_set_flags(ARGUMENTS),
        forms=tuple(form for form in FORMS if FLAGS[form].value),
        initial_weights=FLAGS.initial_weights and find_weights(FLAGS.initial_weights)[1],
        seed=FLAGS.seed,
        resize=FLAGS.resize,
        data_dir=FLAGS.data_dir,
        out=FLAGS.out and pathlib.Path(FLAGS.out),
        tensorboard=FLAGS.tensorboard and pathlib.Path(FLAGS.tensorboard),
        cache=FLAGS.cache,
        evaluate_every=FLAGS.evaluate_every,
        checkpoint_seconds=FLAGS.checkpoint_seconds,
    )


def _set_flags(names):
    return {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}


def train_seeds(config, count, devices):
    """Trains several seeds, each in a directory of its own, and prints their median error.

    A seed that diverges does not keep the others from being trained; among errors it is the highest.

    Args:
        config: `RunConfig` of the first seed.
        count: how many seeds.
        devices: `train.devices.Devices`.
    """
    errors = {}
    with _stop_signals() as stop:
        for seed in range(config.seed, config.seed + count):
            if devices.any(stop()):
                raise loop.Stopped(f"stopped before seed {seed}: the same command resumes.")
            keras.utils.clear_session()
            try:
                errors[seed] = train(config.for_seed(seed), devices, stop)
            except loop.Diverged as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                errors[seed] = math.inf
    if not devices.main:
        return
    shown = ", ".join(f"{error:.2f}" if error < math.inf else "diverged" for error in errors.values())
    median = statistics.median(errors.values())
    median = f"{median:.2f} %" if median < math.inf else "diverged"
    print(f"test error, median of {len(errors)} seeds: {median} ({shown})")


def train(config, devices, stop=lambda: False):
    """Trains one network.

    Args:
        config: `RunConfig`.
        devices: `train.devices.Devices`.
        stop: as `train.loop.train` takes it.

    Returns:
        Test error of the last step, percent.
    """
    with devices.scope(), contextlib.ExitStack() as stack:
        recipe, data, model, units, teacher = prepare(config, devices)
        config.out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(file_lock(config.out, devices))
        record = _start_record(config, recipe, data, teacher, devices)
        if devices.main and hasattr(data.source, "speed"):
            print(f"input pipeline alone: {data.source.speed(steps=5):,.0f} images/s", flush=True)
        callbacks = []
        if devices.main:
            callbacks.append(stack.enter_context(ProgressDisplay(recipe)))
            if config.tensorboard:
                callbacks.append(stack.enter_context(tensorboard(config.tensorboard)))
        try:
            progress = loop.train(
                model, data.source, data.measure, recipe, config.out, units=units,
                checkpoint_seconds=config.checkpoint_seconds, evaluate_every=config.evaluate_every,
                callbacks=callbacks, stop=stop, devices=devices,
            )  # fmt: skip
        except loop.Diverged as error:
            if devices.main:
                write_json(config.out / RUN_FILE, {**record, DIVERGED: error.step})
            raise
        last = progress.history[-1]
        if devices.main:
            _end_record(config, record, progress)
            print(f"test error {last['test_error']:.2f} %; {config.out / WEIGHTS}")
        return last["test_error"]


def _start_record(config, recipe, data, teacher, devices):
    """run.json of the first process; where that refuses the run, all processes stop."""
    with devices.sync_errors(ValueError, OSError):
        if devices.main:
            return start_record(config.out, config.settings(recipe, data, teacher), config.command(), devices)


def _end_record(config, record, progress):
    """run.json of a finished run, and its curve."""
    last = progress.history[-1]
    record["wall_seconds"] = round(progress.seconds, 1)
    record.update({f"{name}_at_end": error for name, error in last.items() if name.startswith("test_error")})
    write_json(config.out / RUN_FILE, record)
    try:
        draw_curve(progress.history, config.out / "curve.png", f"{config.model}, {config.dataset}, {config.recipe}")
    except ImportError:
        print("matplotlib is not installed: train.publish draws the curve.")


def dry_run(config, devices, seeds=None):
    """Prints what `train` would do, and how long it would take.

    Args:
        config: `RunConfig`.
        devices: `train.devices.Devices`.
        seeds: how many runs; None for one.
    """
    with devices.scope():
        recipe, data, model, units, _ = prepare(config, devices)
        if devices.main:
            print(describe(config.model, config.arguments, config.dataset, data, recipe, model), flush=True)
        timed = time_steps(data.source, recipe, model, units, devices, seeds)
        if devices.main:
            print(timed, flush=True)


class Prepared(NamedTuple):
    """What the training loop gets.

    Attributes:
        recipe: `train.recipes.Recipe`, with its steps counted.
        data: `train.data.inputs.Input`; its source gives the batches of the recipe.
        model: the network, or the view of it that is trained.
        units: `train.stochastic_depth.UnitSampler`; None where every step trains all units.
        teacher: name, version and SHA-256 of the teacher, for run.json; None without one.
    """

    recipe: Recipe
    data: Input
    model: keras.Model
    units: UnitSampler | None
    teacher: dict | None


def prepare(config, devices):
    """Recipe, data and network of a run, and what goes with them.

    Args:
        config: `RunConfig`.
        devices: `train.devices.Devices`.

    Returns:
        `Prepared`.
    """
    recipe = config.values
    check_recipe(recipe, devices)
    if devices.main and (warning := slow_precision(recipe.dtype)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(recipe.dtype)
    data = open_input(config.dataset, config.data_dir, recipe, config.seed, config.resize, config.cache, devices)
    data = dataclasses.replace(data, pixels=pixels_of_older_run(config.out) or data.pixels)
    model = build(
        config.model,
        **config.arguments,
        **dict.fromkeys(config.forms, True),
        preprocessing=data.pixels,
        classes=len(data.class_names),
        input_shape=data.image_shape,
        classifier_activation=None,
    )
    if config.initial_weights:
        set_initial_weights(model, *find_weights(config.initial_weights))
    model, recipe = sync_batch_norm(model, devices), recipe.for_images(data.train_images)
    units = teacher = None
    if recipe.leaves_units_out:
        model = SwitchedNetwork(model, scaled=recipe.survival is not None)
        units = UnitSampler(recipe, len(model.unit_names), config.seed)
    source = data.source
    if recipe.mixup or recipe.cutout:
        source = MixedBatches(source, recipe, config.seed)
    if recipe.teacher:  # after the network, whose initial weights depend on what was drawn before
        network, teacher = open_teacher(recipe.teacher, data)
        source = DistilledBatches(source, network)
    return Prepared(recipe, dataclasses.replace(data, source=source), model, units, teacher)


@contextlib.contextmanager
def _stop_signals():
    """Turns SIGTERM and Ctrl-C into an answer to "stop?"; a second signal acts as usual."""
    asked = []

    def ask(number, frame):
        asked.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    app.run(main)
