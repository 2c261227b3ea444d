"""Measures the test error of a run's weights, in float32, as a user would load them.

python -m train.evaluate --run runs/resnet20-0 --data_dir cifar10.npz
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
from train.command import run
from train.data.inputs import view_errors
from train.run_files import WEIGHTS, completed_settings, load_record, run_dataset

BATCH = 500

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of images.")


def evaluate(run, data_dir, weights=None, full=False):
    """Test error of the weights of a run, by the package's own builder.

    Args:
        run: folder that `train.train` filled.
        data_dir: as `keras_resv2.data.load_split` takes it; of images from disk, their directory.
        weights: another weight file than the run's own.
        full: whether `keras_resv2.metrics.full_report` is measured too, of a small dataset.

    Returns:
        Dictionary: test_error (percent), test_images; of a small dataset test_errors_first_2000 (count)
        too, and with `full` details, the report; of images from disk the errors of the recipe's other views.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: the test images are not those of the run.
    """
    settings = completed_settings(load_record(run)["settings"])
    dataset = run_dataset(settings)
    network = {
        "weights": str(weights or pathlib.Path(run) / WEIGHTS),
        "dtype": "float32",
        "preprocessing": settings["preprocessing"],
        "classes": dataset.classes,
        **settings["arguments"],
    }
    if dataset.streamed:
        return _evaluate_streamed(run, settings, data_dir, network)
    images, labels = data.load_split(dataset, "test", data_dir, settings.get("resize", False))
    _check_images(run, settings, data_dir, data.fingerprint(images, labels))
    # The likelihood needs logits, which have the same order as probabilities.
    model = build(settings["model"], **network, input_shape=dataset.image_shape, classifier_activation=None)
    logits = class_scores(model, images, BATCH)
    mistakes = highest_class(logits) != labels
    details = {"details": full_report(model, images, labels, BATCH, logits=logits)} if full else {}
    return {
        "test_error": round(100 * float(mistakes.mean()), 2),
        "test_errors_first_2000": int(mistakes[:2000].sum()),
        "test_images": len(labels),
        **details,
    }


def _evaluate_streamed(run, settings, data_dir, network):
    source = open_source(settings["dataset"], data_dir, "test")
    _check_images(run, settings, data_dir, source_fingerprint(source))
    model = build(settings["model"], **network, input_shape=(None, None, 3))
    errors = view_errors(model, source, settings["recipe_values"]["views"])
    return {**{name: round(error, 2) for name, error in errors.items()}, "test_images": len(source)}


def _check_images(run, settings, data_dir, found):
    if found != settings["dataset_sha256"]["test"]:
        raise ValueError(f"{data_dir}: these are not the test images that {run} was made with.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        print(json.dumps(evaluate(FLAGS.run, FLAGS.data_dir)))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run(main)
