"""Trains a network of the zoo.

    python -m train.train --model preact_resnet20 --dataset cifar10 --data_dir cifar10.npz \
        --recipe fast --seed 0 --out runs/preact_resnet20-0

--data_dir is a tensorflow-datasets directory or an .npz file with x_train, y_train, x_test, y_test;
without it tensorflow-datasets downloads the dataset. --out holds all that the run leaves: run.json
(settings, versions, dataset), history.csv, curve.png, checkpoints, and weights.h5 at the end. The same
command on the same --out resumes a run that was cut off.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import signal
import sys

import keras
from absl import app, flags

from keras_resv2 import datasets
from keras_resv2.architectures import build
from train import engine
from train.display import Display, draw_curve
from train.environment import environment
from train.recipes import RECIPES

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Network: a name that `keras-resv2 list --architectures` shows.")
flags.DEFINE_enum("dataset", "cifar10", list(datasets.DATASETS), "What to train on.")
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, or .npz file.")
flags.DEFINE_enum("recipe", "fast", list(RECIPES), "A row of train/recipes.py; the flags below replace its values.")
flags.DEFINE_string("out", None, "Folder of the run. Resumes if it holds an unfinished one.")
flags.DEFINE_integer("seed", 0, "Of the initial weights, the order of images and augmentation.", lower_bound=0)
flags.DEFINE_integer("steps", None, "Updates of the weights.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images per step.", lower_bound=1)
flags.DEFINE_float("weight_decay", None, "L2 factor.", lower_bound=0)
flags.DEFINE_enum("dtype", None, ["float32", "mixed_bfloat16"], "Precision of the layers.")
flags.DEFINE_string("activation", None, "Order of BN and ReLU (Fig. 4), where it is not the model's own.")
flags.DEFINE_string("shortcut", None, "Shortcut (Fig. 2), for example 'exclusive_gating(bias=-6)'.")
flags.DEFINE_enum("projection", None, ["A", "B", "C"], "Shortcut where the size changes.")
flags.DEFINE_enum("stride_on", None, ["1x1", "3x3"], "Convolution of a bottleneck that takes the stride.")
flags.DEFINE_enum("stem", None, ["cifar", "imagenet"], "First layers; 'cifar' for small pictures.")
flags.DEFINE_integer("evaluate_every", 5, "Epochs between measurements of the test error.", lower_bound=1)
flags.DEFINE_integer("checkpoint_seconds", 60, "Seconds between checkpoints.", lower_bound=0)

RECIPE_FLAGS = ("steps", "batch_size", "weight_decay", "dtype")
VARIANT_FLAGS = ("activation", "shortcut", "projection", "stride_on", "stem")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not FLAGS.model or not FLAGS.out:
        raise app.UsageError("--model and --out are needed.")
    try:
        run()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


def run():
    """Trains as the flags say."""
    recipe = dataclasses.replace(RECIPES[FLAGS.recipe], **_given(RECIPE_FLAGS))
    variant = _given(VARIANT_FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    keras.config.set_dtype_policy(recipe.dtype)
    model = build(
        FLAGS.model,
        **variant,
        classes=len(datasets.DATASETS[FLAGS.dataset].class_names),
        input_shape=datasets.DATASETS[FLAGS.dataset].image_shape,
        classifier_activation=None,
    )
    train_data, test_data = (datasets.load_split(FLAGS.dataset, s, FLAGS.data_dir) for s in ("train", "test"))

    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": FLAGS.model,
        "arguments": variant,
        "dataset": FLAGS.dataset,
        "dataset_sha256": {"train": datasets.fingerprint(*train_data), "test": datasets.fingerprint(*test_data)},
        "train_images": len(train_data[1]),
        "recipe": FLAGS.recipe,
        "recipe_values": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "seed": FLAGS.seed,
    }
    record = _start_record(out, settings)

    if keras.backend.backend() == "tensorflow" and keras.config.image_data_format() == "channels_last":
        from train.fused_batch_norm import with_fused_batch_norm

        model = with_fused_batch_norm(model)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM: the same command resumes"))
    with Display(recipe.steps) as display:
        progress = engine.train(
            model,
            train_data,
            test_data,
            recipe,
            FLAGS.seed,
            out,
            checkpoint_seconds=FLAGS.checkpoint_seconds,
            evaluate_every=FLAGS.evaluate_every,
            observers=[display],
        )
    record["wall_seconds"] = round(progress.seconds, 1)
    record["test_error_at_end"] = progress.history[-1]["test_error"]
    _write_json(out / "run.json", record)
    draw_curve(progress.history, out / "curve.png", f"{FLAGS.model}, {FLAGS.dataset}, {FLAGS.recipe}")
    print(f"test error {record['test_error_at_end']:.2f} %; {out / 'weights.h5'}")


def _given(names):
    return {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}


def _start_record(out, settings):
    """Writes run.json, or checks that the one there is of the same run."""
    path, here = out / "run.json", environment()
    if path.exists():
        record = json.loads(path.read_text())
        changed = [key for key, value in settings.items() if record["settings"].get(key) != value]
        if changed:
            raise ValueError(f"{out} holds a run with other {', '.join(changed)}: choose another --out.")
        if record["environments"][-1] != here:
            record["environments"].append(here)
            _write_json(path, record)
        return record
    record = {"settings": settings, "command": _command(), "environments": [here]}
    _write_json(path, record)
    return record


def _command():
    """The command of this run, without the places that are this machine's own."""
    local = ("--data_dir", "--out")
    shown, skip = [], False
    for argument in sys.argv[1:]:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in local:
            skip = not equals
        else:
            shown.append(shlex.quote(argument))
    return " ".join(["python -m train.train", *shown])


def _write_json(path, content):
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


if __name__ == "__main__":
    app.run(main)
