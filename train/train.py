"""Trains a network of the zoo.

    python -m train.train --model preact_resnet20 --dataset cifar10 --data_dir cifar10.npz \
        --recipe fast --seed 0 --out runs/preact_resnet20-0

--data_dir is a tensorflow-datasets directory or an .npz file with x_train, y_train, x_test, y_test;
without it tensorflow-datasets downloads the dataset. With --recipe imagenet it is a tensorflow-datasets
directory, or a folder with train/ and val/ that hold a folder of pictures per class. --out holds all that
the run leaves: run.json (settings, versions, dataset), history.csv, curve.png, checkpoints, and weights.h5
at the end. The same command on the same --out resumes a run that was cut off. SIGTERM and Ctrl-C save
first. --dry_run prints the plan, with the time that it will take, and writes nothing.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import statistics
import sys

import keras
from absl import app, flags

from keras_resv2 import datasets
from keras_resv2.architectures import ARCHITECTURES, build
from keras_resv2.choices import check_choice
from train import engine, plan
from train.batch_norm import for_devices
from train.devices import ElsewhereError, check_recipe, make_deterministic, use_devices
from train.display import Display, draw_curve, tensorboard
from train.inputs import PICTURES, open_input
from train.recipes import RECIPES
from train.record import DIVERGED, FORMS, RUN_FILE, locked, start_record, write_json
from train.sampled_units import with_units_per_batch
from train.streams import TrainStream

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Network: a name that `keras-resv2 list --architectures` shows.")
flags.DEFINE_enum("dataset", "cifar10", [*datasets.DATASETS, *PICTURES], "What to train on.")
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of pictures.")
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
flags.DEFINE_bool("rolled", False, "Run the units of a stage as a loop, which compiles fast however deep it is.")
flags.DEFINE_bool("rematerialize", False, "With --rolled: save memory by computing units again on the way back.")
flags.DEFINE_integer("units_per_batch", None, "Train so many random units in each batch, by shortcuts past the others.")
flags.DEFINE_bool("resize", False, "Resize images of another size to the dataset's.")
flags.DEFINE_bool("cache", False, "Keep picture files in memory once they were read.")
flags.DEFINE_integer("evaluate_every", 5, "Epochs between measurements of the test error.", lower_bound=1)
flags.DEFINE_integer("checkpoint_seconds", 60, "Seconds between checkpoints.", lower_bound=0)
flags.DEFINE_string("tensorboard", None, "Folder for TensorBoard's event files.")
flags.DEFINE_integer("devices", 1, "Accelerators of this machine to train on.", lower_bound=1)
flags.DEFINE_string("processes", None, "JAX on several machines: ADDRESS:PORT,NUMBER,INDEX. TensorFlow: TF_CONFIG.")
flags.DEFINE_bool("dry_run", False, "Print the plan, time a few steps, and stop.")

RECIPE_FLAGS = ("steps", "batch_size", "weight_decay", "image_size", "dtype", "units_per_batch")
VARIANT_FLAGS = ("activation", "shortcut", "projection", "stride_on", "stem")
STOPPED = 128 + signal.SIGTERM  # exit status of a run that saved and stopped when asked


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not FLAGS.model or not (FLAGS.out or FLAGS.dry_run):
        raise app.UsageError("--model and --out are needed.")
    try:
        check_choice("architecture", FLAGS.model, ARCHITECTURES)
        devices = use_devices(FLAGS.devices, FLAGS.processes)
        make_deterministic()
        if FLAGS.dry_run:
            with devices.scope():
                dry_run(devices)
        else:
            train_seeds(devices)
    except engine.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)
    except (ValueError, OSError, ImportError, FloatingPointError, ElsewhereError) as error:
        sys.exit(f"error: {error}")


def train_seeds(devices):
    """Trains one seed in --out, or with --seeds several in folders of it, and prints their median.

    A seed that diverges does not keep the others from being trained; among errors it is the highest.
    """
    out = pathlib.Path(FLAGS.out)
    with _stop_signals() as stop:
        if FLAGS.seeds is None:
            train(FLAGS.seed, out, devices, stop)
            return
        errors = {}
        for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.seeds):
            if devices.any(stop()):
                raise engine.Stopped(f"stopped before seed {seed}: the same command resumes.")
            keras.utils.clear_session()
            try:
                errors[seed] = train(seed, out / f"seed{seed}", devices, stop)
            except engine.Diverged as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                errors[seed] = math.inf
    if not devices.main:
        return
    shown = ", ".join(f"{error:.2f}" if error < math.inf else "diverged" for error in errors.values())
    median = statistics.median(errors.values())
    median = f"{median:.2f} %" if median < math.inf else "diverged"
    print(f"test error, median of {len(errors)} seeds: {median} ({shown})")


def train(seed, out, devices, stop):
    """Trains one network as the flags say.

    Args:
        seed: of this run.
        out: its folder.
        devices: `train.devices.Devices`.
        stop: as `train.engine.train` takes it.

    Returns:
        Test error of the last step, percent.
    """
    with devices.scope():
        return _train(seed, out, devices, stop)


def _train(seed, out, devices, stop):
    recipe, data, model, variant = _prepare(seed, devices)
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(out, devices))
        record = _start_record(out, _settings(recipe, data, variant, seed), devices)
        if devices.main and isinstance(data.source, TrainStream):
            print(f"input pipeline alone: {data.source.speed(steps=5):,.0f} images/s", flush=True)
        observers = []
        if devices.main:
            observers.append(stack.enter_context(Display(recipe)))
            if FLAGS.tensorboard:
                folder = pathlib.Path(FLAGS.tensorboard)
                observers.append(stack.enter_context(tensorboard(folder / out.name if FLAGS.seeds else folder)))
        try:
            progress = engine.train(
                model, data.source, data.measure, recipe, out,
                checkpoint_seconds=FLAGS.checkpoint_seconds, evaluate_every=FLAGS.evaluate_every,
                observers=observers, stop=stop, devices=devices,
            )  # fmt: skip
        except engine.Diverged as error:
            if devices.main:
                write_json(out / RUN_FILE, {**record, DIVERGED: error.step})
            raise
        if devices.main:
            _end_record(record, progress, out)
    last = progress.history[-1]
    if devices.main:
        print(f"test error {last['test_error']:.2f} %; {out / engine.WEIGHTS}")
    return last["test_error"]


def _settings(recipe, data, variant, seed):
    """All that decides what a run comes to."""
    settings = {
        "model": FLAGS.model,
        "arguments": variant,
        "dataset": FLAGS.dataset,
        "dataset_sha256": data.fingerprints,
        "train_images": data.train_images,
        "test_images": data.test_images,
        "recipe": FLAGS.recipe,
        "recipe_values": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "seed": seed,
    }
    settings.update({name: True for name in ("resize", *FORMS) if FLAGS[name].value})
    if FLAGS.dataset in PICTURES:
        settings["class_names"] = list(data.class_names)
    return settings


def _start_record(out, settings, devices):
    """run.json of the first process; where that refuses the run, all processes stop."""
    with devices.together(ValueError, OSError):
        return start_record(out, settings, devices) if devices.main else None


def _end_record(record, progress, out):
    """run.json of a finished run, and its curve."""
    last = progress.history[-1]
    record["wall_seconds"] = round(progress.seconds, 1)
    record.update({f"{name}_at_end": error for name, error in last.items() if name.startswith("test_error")})
    write_json(out / RUN_FILE, record)
    try:
        draw_curve(progress.history, out / "curve.png", f"{FLAGS.model}, {FLAGS.dataset}, {FLAGS.recipe}")
    except ImportError:
        print("matplotlib is not installed: train.publish draws the curve.")


def dry_run(devices):
    """Prints what `train` would do, and how long it would take."""
    recipe, data, model, variant = _prepare(FLAGS.seed, devices)
    if devices.main:
        print(plan.describe(FLAGS.model, variant, FLAGS.dataset, data, recipe, model), flush=True)
    timed = plan.time_steps(data.source, recipe, model, devices, FLAGS.seeds)
    if devices.main:
        print(timed, flush=True)


def _prepare(seed, devices):
    """Recipe, data and network that the flags ask for, and the network's arguments."""
    recipe = RECIPES[FLAGS.recipe].with_values(FLAGS.set, **_given(RECIPE_FLAGS))
    if FLAGS.learning_rate is not None:
        recipe = recipe.with_peak(FLAGS.learning_rate)
    check_recipe(recipe, devices)
    variant = _given(VARIANT_FLAGS)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(recipe.dtype)
    data = open_input(FLAGS.dataset, FLAGS.data_dir, recipe, seed, FLAGS.resize, FLAGS.cache, devices)
    model = build(
        FLAGS.model,
        **variant,
        **{name: FLAGS[name].value for name in FORMS},
        classes=len(data.class_names),
        input_shape=data.image_shape,
        classifier_activation=None,
    )
    if recipe.units_per_batch is not None:
        model = with_units_per_batch(model, recipe.units_per_batch)
    return recipe.for_images(data.train_images), data, for_devices(model, devices), variant


@contextlib.contextmanager
def _stop_signals():
    """Turns SIGTERM and Ctrl-C into an answer to "stop?"; a second signal acts as ever."""
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


def _given(names):
    return {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}


if __name__ == "__main__":
    app.run(main)
