"""Fine-tunes a pretrained network on your own images: `keras-resv2 finetune`, with the commit in the report.

    python -m train.finetune --model preact_resnet20-cifar10 --data flowers --out runs/flowers

--data is a folder with a folder of images per class (any size and format, grayscale or color), or with train/, test/
and, optionally, val/ of such folders; or the name of a dataset of tensorflow-datasets. Without test/, val/ measures the
error. Missing splits are taken from the training images; the seed determines which.
--out gets the model (model.keras), report.json with the metrics, history.csv and curve.png, the confusion matrix (CSV
and PNG), mistakes.png with the most confident mistakes, split.json with the split of each image, and a weight folder.
--out itself is a name that `from_pretrained` and all commands of keras-resv2 take.
"""

import pathlib
import sys

from absl import app, flags

from keras_resv2.cli.finetune import DTYPES, KINDS, LEAST, SETTINGS, finetune
from train.command import run
from train.environment import environment

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Pretrained network, as `keras-resv2 list` shows.", required=True)
flags.DEFINE_string("data", None, "Folder of class folders, or a dataset of tensorflow-datasets.", required=True)
flags.DEFINE_string("out", None, "Folder for the model and its report; must not contain a model.", required=True)
flags.DEFINE_string("data_dir", None, "Directory of tensorflow-datasets; default: the standard one.")
flags.DEFINE_enum("damaged", "skip", ["skip", "raise"], "Skip damaged images, or stop.")
for _name, (_default, _text) in SETTINGS.items():
    _define = flags.DEFINE_integer if KINDS.get(_name) is int else flags.DEFINE_float
    _define(_name, _default, f"{_text[0].upper()}{_text[1:]}.", LEAST.get(_name))
flags.DEFINE_string("freeze_until", None, "First part that trains, such as stage3; layers before it are frozen.")
flags.DEFINE_enum("batch_norm", "frozen", ["frozen", "trained"], "Whether batch normalization trains.")
flags.DEFINE_multi_enum(
    "augment",
    ["crop", "flip"],
    ["crop", "flip", "none"],
    "Augmentation; may be repeated (use only crop for digits and text).",
)
flags.DEFINE_bool("balanced", False, "Give all classes the same weight.")
flags.DEFINE_enum("dtype", "float32", DTYPES, "Precision of the layers.")

OTHERS = ("data", "data_dir", "damaged", "freeze_until", "batch_norm", "augment", "balanced", "dtype")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    settings = {name: FLAGS[name].value for name in (*SETTINGS, *OTHERS)}
    try:
        finetune(pathlib.Path(FLAGS.out), FLAGS.model, settings, environment())
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run(main)
