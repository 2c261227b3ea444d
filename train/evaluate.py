"""Measures the test error of a run's weights in float32, loaded like a user would.

    python -m train.evaluate --run runs/resnet20-0 --data_dir cifar10.npz

For a run with averaged weights, `--last_step` measures the weights of its last step instead of their average.
"""

import json
import pathlib
import sys

from absl import app, flags

from keras_resv2 import data
from keras_resv2.builders import build
from keras_resv2.data.sources import open_source, source_fingerprint
from keras_resv2.evaluation import highest_class
from keras_resv2.metrics import class_scores, full_report
from train import checkpoint
from train.command import run
from train.config import FORMS
from train.data.inputs import view_errors
from train.run_files import WEIGHTS, completed_settings, load_record, run_dataset

BATCH = 500

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of images.")


def evaluate(run, data_dir, weights=None, full=False, last_step=False):
    """Measures the test error of a run's weights, loaded with the package's builder.

    Args:
        run: folder written by `train.train`.
        data_dir: see `keras_resv2.data.load_split`; the directory of images streamed from disk.
        weights: weight file to use instead of that of the run.
        full: whether to include `keras_resv2.metrics.full_report`, for small datasets.
        last_step: whether to use, instead, the weights of the last step of a run with averaged weights, and the
            statistics of its training, from its last checkpoint.

    Returns:
        Dictionary: test_error (percent), test_images; for small datasets also test_errors_first_2000 (count) and, with
        `full`, the report as details; for images streamed from disk the errors of the recipe's other views.

    Raises:
        FileNotFoundError: if the run is not finished, or with `last_step` has no checkpoint.
        ValueError: if the test images differ from those of the run; or with `last_step`, if its weights are not
            averaged, or its statistics are not those of the whole network on images of their own size.
    """
    settings = completed_settings(load_record(run)["settings"])
    dataset = run_dataset(settings)
    if last_step:
        _check_last_step(run, settings["recipe_values"], dataset)
    network = {
        "weights": str(weights or pathlib.Path(run) / WEIGHTS),
        "dtype": "float32",
        "preprocessing": settings["preprocessing"],
        "classes": dataset.classes,
        **settings["arguments"],
    }
    if dataset.streamed:
        return _evaluate_streamed(run, settings, data_dir, network, last_step)
    images, labels = data.load_split(dataset, "test", data_dir, settings.get("resize", False))
    _check_images(run, settings, data_dir, data.fingerprint(images, labels))
    # The likelihood needs logits, which rank classes like probabilities.
    network |= {"input_shape": dataset.image_shape, "classifier_activation": None}
    model = _open(run, settings, network, last_step)
    logits = class_scores(model, images, BATCH)
    mistakes = highest_class(logits) != labels
    details = {"details": full_report(model, images, labels, BATCH, logits=logits)} if full else {}
    return {
        "test_error": round(100 * float(mistakes.mean()), 2),
        "test_errors_first_2000": int(mistakes[:2000].sum()),
        "test_images": len(labels),
        **details,
    }


def _evaluate_streamed(run, settings, data_dir, network, last_step):
    source = open_source(settings["dataset"], data_dir, "test")
    _check_images(run, settings, data_dir, source_fingerprint(source))
    model = _open(run, settings, {**network, "input_shape": (None, None, 3)}, last_step)
    errors = view_errors(model, source, settings["recipe_values"]["views"])
    return {**{name: round(error, 2) for name, error in errors.items()}, "test_images": len(source)}


def _open(run, settings, network, last_step):
    forms = {form: True for form in FORMS if last_step and settings.get(form)}  # checkpoints of other forms differ
    model = build(settings["model"], **network, **forms)
    if last_step:
        step = settings["recipe_values"]["steps"]
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        if checkpoint.restore(run, variables, step, others=True) is None:
            raise FileNotFoundError(f"{run} has no checkpoint of step {step}, the last one.")
    return model


def _check_last_step(run, values, dataset):
    if not values["average"]:
        raise ValueError(f"{run} has no averaged weights: its weights are those of the last step, omit --last_step.")
    for name in ("units_per_batch", "survival", "image_size"):
        if values[name] is not None and not (dataset.streamed and name == "image_size"):
            raise ValueError(
                f"{run} was trained with {name}={values[name]}: statistics of its training can be those of smaller "
                "images or of a part of the network, so --last_step does not measure it."
            )


def _check_images(run, settings, data_dir, found):
    if found != settings["dataset_sha256"]["test"]:
        raise ValueError(f"{data_dir}: these are not the test images of {run}.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        print(json.dumps(evaluate(FLAGS.run, FLAGS.data_dir, last_step=FLAGS.last_step)))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":  # train.publish has the flags above, but always publishes the averages
    flags.DEFINE_bool("last_step", False, "Measure the weights of the last step of a run with averaged weights.")
    run(main)
