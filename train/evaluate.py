"""Measures the test error of a run's weights, in float32, as a user would load them.

python -m train.evaluate --run runs/resnet20-0 --data_dir cifar10.npz
"""

import json
import pathlib
import sys

from absl import app, flags

from keras_resv2 import datasets
from keras_resv2.architectures import build
from keras_resv2.evaluation import measure_error

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory, or .npz file.")


def evaluate(run, data_dir):
    """Test error of the weights of a run, by the package's own builder.

    Args:
        run: folder that `train.train` filled.
        data_dir: as `keras_resv2.datasets.load_split` takes it.

    Returns:
        Dictionary: test_error (percent), test_errors_first_2000 (count), test_images.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: the test images are not those of the run.
    """
    settings = load_record(run)["settings"]
    dataset = datasets.DATASETS[settings["dataset"]]
    images, labels = datasets.load_split(dataset.name, "test", data_dir)
    if datasets.fingerprint(images, labels) != settings["dataset_sha256"]["test"]:
        raise ValueError(f"{data_dir}: these are not the test images that {run} was made with.")
    model = build(
        settings["model"],
        **settings["arguments"],
        input_shape=dataset.image_shape,
        classes=len(dataset.class_names),
        weights=str(pathlib.Path(run) / "weights.h5"),
        dtype="float32",
    )
    return {
        "test_error": round(measure_error(model, images, labels), 2),
        "test_errors_first_2000": round(measure_error(model, images[:2000], labels[:2000]) * 20),
        "test_images": len(labels),
    }


def load_record(run):
    """run.json of a finished run."""
    run = pathlib.Path(run)
    for name in ("run.json", "weights.h5", "history.csv", "curve.png"):
        if not (run / name).exists():
            raise FileNotFoundError(f"{run} has no {name}: it is no finished run of train.train.")
    record = json.loads((run / "run.json").read_text())
    if "wall_seconds" not in record:
        raise FileNotFoundError(f"{run} is no finished run: the command that began it finishes it.")
    return record


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        print(json.dumps(evaluate(FLAGS.run, FLAGS.data_dir)))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
