"""Trains a network.

    python -m train.train --model preact_resnet20 --dataset cifar10 --data_dir cifar10.npz \
        --recipe fast --seed 0 --out runs/preact_resnet20-0

--data_dir is a tensorflow-datasets directory or an .npz file with x_train, y_train, x_test, y_test; without it
tensorflow-datasets downloads the dataset. --dataset arrays takes an .npz file of any images. With --recipe imagenet
--data_dir is a tensorflow-datasets directory, or a folder with train/ and test/ (or val/), each with one folder of
images per class. All output of the run is in --out: run.json (settings, versions, dataset), history.csv, curve.png,
checkpoints, and weights.h5 at the end. The same command with the same --out resumes an interrupted run. SIGTERM and
Ctrl-C save first. --dry_run prints the plan with the estimated time, and writes nothing.
"""

import dataclasses
import pathlib
import signal
import sys

from absl import app, flags

from keras_resv2.data import DATASETS
from keras_resv2.startup import print_stderr
from train import loop
from train.command import run
from train.config import ARGUMENTS, CHOICES, FORMS, RECIPE_FLAGS, RunConfig
from train.devices import ElsewhereError, make_deterministic, use_devices
from train.distillation import pinned
from train.dry_run import describe, time_steps
from train.initial_weights import find_weights
from train.prepare import prepare
from train.recipes import RECIPES
from train.run_files import is_run, kept_version, read_record
from train.runs import stop_signals, train, train_seeds

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    None,
    "Network: one of `keras-resv2 list --architectures`, or another depth or width, such as preact_resnet38 or "
    "wide_resnet16_4.",
)
flags.DEFINE_enum("dataset", "cifar10", list(DATASETS), "Dataset; arrays: any .npz file, folder: any folder of images.")
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of images.")
flags.DEFINE_enum("recipe", "fast", list(RECIPES), "A row of train/recipes.py; the flags below replace its values.")
flags.DEFINE_string("out", None, "Folder of the run; an unfinished run in it is resumed.")
flags.DEFINE_integer(
    "seed", 0, "Random seed of the initial weights, the order of images and augmentation.", lower_bound=0
)
flags.DEFINE_integer(
    "seeds", None, "Number of seeds to train, starting with --seed; prints their median error.", lower_bound=1
)
flags.DEFINE_bool(
    "seeds_together", None, "Train them in one compiled program (JAX); by default on an accelerator if possible."
)
flags.DEFINE_integer("steps", None, "Number of updates of the weights.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images per step, over all devices.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Highest learning rate; the others are scaled with it.", lower_bound=0)
flags.DEFINE_float("weight_decay", None, "L2 factor.", lower_bound=0)
flags.DEFINE_integer("image_size", None, "Shorter side of the training images, in pixels.", lower_bound=2)
flags.DEFINE_enum("dtype", None, ["float32", "mixed_bfloat16", "mixed_float16"], "Precision of the layers.")
flags.DEFINE_multi_string("set", [], "Any value of the recipe, such as --set flip=random; may be repeated.")
flags.DEFINE_string("activation", None, "Order of BN and ReLU (Fig. 4), if not the model's default.")
flags.DEFINE_string("shortcut", None, "Shortcut (Fig. 2), for example 'exclusive_gating(bias=-6)'.")
flags.DEFINE_enum("projection", None, CHOICES["projection"], "Shortcut where the size changes.")
flags.DEFINE_enum("stride_on", None, CHOICES["stride_on"], "Convolution of a bottleneck that has the stride.")
flags.DEFINE_enum("stem", None, CHOICES["stem"], "First layers; 'cifar' for small images.")
flags.DEFINE_integer("width", None, "Widening factor of wide residual networks.", lower_bound=1)
flags.DEFINE_string("initial_weights", None, "Weights to start from: a pretrained name, run directory or weight file.")
flags.DEFINE_bool("rolled", False, "Run the units of a stage as a loop, which compiles fast at any depth.")
flags.DEFINE_bool("rematerialize", False, "With --rolled: save memory by recomputing units in the backward pass.")
flags.DEFINE_integer("units_per_batch", None, "Number of random units that each batch trains; the others are skipped.")
flags.DEFINE_bool("resize", False, "Resize images of another size to the dataset's.")
flags.DEFINE_bool("cache", False, "Keep image files in memory once they have been read.")
flags.DEFINE_integer("evaluate_every", 5, "Epochs between measurements of the test error.", lower_bound=1)
flags.DEFINE_integer("checkpoint_seconds", 60, "Seconds between checkpoints.", lower_bound=0)
flags.DEFINE_string("tensorboard", None, "Folder for TensorBoard's event files.")
flags.DEFINE_integer("devices", 1, "Number of accelerators of this machine to train on.", lower_bound=1)
flags.DEFINE_string("processes", None, "JAX on several machines: ADDRESS:PORT,NUMBER,INDEX. TensorFlow: TF_CONFIG.")
flags.DEFINE_bool("dry_run", False, "Print the plan, time a few steps, and exit.")

STOPPED = 128 + signal.SIGTERM  # exit status of a run that saved and stopped on request


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not FLAGS.model or not (FLAGS.out or FLAGS.dry_run):
        raise app.UsageError("--model and --out are required.")
    if FLAGS.seeds_together and FLAGS.seeds is None:
        raise app.UsageError("--seeds_together requires --seeds, the number of seeds.")
    try:
        config = config_from_flags()
        devices = use_devices(FLAGS.devices, FLAGS.processes)
        make_deterministic()
        if FLAGS.dry_run:
            dry_run(config, devices, FLAGS.seeds)
        elif FLAGS.seeds is None:
            with stop_signals() as stop:
                train(config, devices, stop)
        else:
            train_seeds(config, FLAGS.seeds, devices, FLAGS.seeds_together)
    except loop.Stopped as stopped:
        print_stderr(stopped)
        sys.exit(STOPPED)
    except (ValueError, OSError, ImportError, FloatingPointError, ElsewhereError) as error:
        sys.exit(f"error: {error}")


def config_from_flags():
    """Creates the `RunConfig` from the flags.

    Raises:
        ValueError: if a model or a recipe value does not exist, or values conflict.
    """
    recipe = RECIPES[FLAGS.recipe].with_values(FLAGS.set, **_set_flags(RECIPE_FLAGS))
    if FLAGS.learning_rate is not None:
        recipe = recipe.with_peak(FLAGS.learning_rate)
    recorded = _recorded(FLAGS.out, FLAGS.seed)
    if recipe.teacher:
        kept = recorded.get("recipe_values", {}).get("teacher")
        recipe = dataclasses.replace(recipe, teacher=kept_version(recipe.teacher, kept) or pinned(recipe.teacher))
    initial_weights = FLAGS.initial_weights
    if initial_weights:
        same = recorded.get("initial_weights")
        initial_weights = kept_version(initial_weights, same) or find_weights(initial_weights)[1]
    return RunConfig(
        model=FLAGS.model,
        recipe=FLAGS.recipe,
        values=recipe,
        dataset=FLAGS.dataset,
        arguments=_set_flags(ARGUMENTS),
        forms=tuple(form for form in FORMS if FLAGS[form].value),
        initial_weights=initial_weights,
        seed=FLAGS.seed,
        resize=FLAGS.resize,
        data_dir=FLAGS.data_dir,
        out=FLAGS.out and pathlib.Path(FLAGS.out),
        tensorboard=FLAGS.tensorboard and pathlib.Path(FLAGS.tensorboard),
        cache=FLAGS.cache,
        evaluate_every=FLAGS.evaluate_every,
        checkpoint_seconds=FLAGS.checkpoint_seconds,
    )


def _recorded(out, seed):
    """Returns the settings of the run that a command resumes; with --seeds those of the first seed."""
    places = [place for place in (out, f"{out}/seed{seed}") if out and is_run(place)]
    return read_record(places[0])["settings"] if places else {}


def _set_flags(names):
    return {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}


def dry_run(config, devices, seeds=None):
    """Prints what `train` would do, and the estimated time.

    Args:
        config: `RunConfig`.
        devices: `train.devices.Devices`.
        seeds: number of runs; None for one.
    """
    with devices.scope():
        recipe, data, model, units, _ = prepare(config, devices)
        if devices.main:
            print(describe(config.model, config.arguments, config.dataset, data, recipe, model), flush=True)
        timed = time_steps(data.source, recipe, model, units, devices, seeds)
        if devices.main:
            print(timed, flush=True)


if __name__ == "__main__":
    run(main)
