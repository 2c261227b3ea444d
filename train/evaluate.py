"""Measures the test error of a run's weights, in float32, as a user would load them.

python -m train.evaluate --run runs/resnet20-0 --data_dir cifar10.npz
"""

import json
import pathlib
import sys

from absl import app, flags

from keras_resv2 import datasets
from keras_resv2.architectures import build
from keras_resv2.evaluation import find_mistakes, slices
from train.data.image_files import PICTURE_DATASETS, fingerprint, open_source
from train.data.inputs import view_errors
from train.loop import WEIGHTS
from train.run_dir import load_record

BATCH = 500

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, .npz file, or folder of pictures.")


def evaluate(run, data_dir, weights=None):
    """Test error of the weights of a run, by the package's own builder.

    Args:
        run: folder that `train.train` filled.
        data_dir: as `keras_resv2.datasets.load_split` takes it.
        weights: another weight file than the run's own.

    Returns:
        Dictionary: test_error (percent), test_images; of a small dataset test_errors_first_2000 (count)
        too, of pictures the errors of the recipe's other views.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: the test images are not those of the run.
    """
    settings = load_record(run)["settings"]
    weights = str(weights or pathlib.Path(run) / WEIGHTS)
    network = {"weights": weights, "dtype": "float32", **settings["arguments"]}
    if settings["dataset"] in PICTURE_DATASETS:
        return _evaluate_pictures(run, settings, data_dir, network)
    dataset = datasets.DATASETS[settings["dataset"]]
    images, labels = datasets.load_split(dataset.name, "test", data_dir, settings.get("resize", False))
    _check_images(run, settings, data_dir, datasets.fingerprint(images, labels))
    model = build(settings["model"], **network, input_shape=dataset.image_shape, classes=len(dataset.class_names))
    mistakes = find_mistakes(model, slices(images, labels, BATCH))
    return {
        "test_error": round(100 * float(mistakes.mean()), 2),
        "test_errors_first_2000": int(mistakes[:2000].sum()),
        "test_images": len(labels),
    }


def _evaluate_pictures(run, settings, data_dir, network):
    source = open_source(settings["dataset"], data_dir, "test")
    _check_images(run, settings, data_dir, fingerprint(source))
    model = build(settings["model"], **network, input_shape=(None, None, 3), classes=len(settings["class_names"]))
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
    app.run(main)
