"""Fine-tunes a pretrained network on pictures of your own.

    python -m train.finetune --model preact_resnet20-cifar10 --data flowers --out runs/flowers

--data is a folder that holds a folder of images per class (any size and format, grey or coloured), or train/ and
test/ with folders of the same classes, and val/ if it has one; or the name of a dataset of tensorflow-datasets. Where
there is no test/, val/ is what is measured with. Parts that are missing are split off, the same way for the same seed.
--out gets the model (model.keras), card.json with the metrics, history.csv and curve.png, the confusion matrix (CSV
and PNG), mistakes.png with the most confident mistakes, and split.json, which says which image was in which part; and
a weight folder, which `from_pretrained` and all commands of keras-resv2 take by its path.
"""

import json
import pathlib
import sys

import keras
from absl import app, flags

from keras_resv2.pretrained import from_pretrained, pretrained_card
from keras_resv2.transfer import fine_tune, freeze
from train.command import run
from train.finetune_data import open_labelled
from train.finetune_report import write_report, write_weight_folder

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Pretrained network, as `keras-resv2 list` shows.", required=True)
flags.DEFINE_string("data", None, "Folder of class folders, or a dataset of tensorflow-datasets.", required=True)
flags.DEFINE_string("out", None, "Folder for the model and its card; must not hold one yet.", required=True)
flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets has the dataset; without it, its own directory.")
flags.DEFINE_enum("damaged", "skip", ["skip", "raise"], "What to do about files that are no pictures.")
flags.DEFINE_float("validation", 0.15, "Share of the pictures to choose the best weights by.")
flags.DEFINE_float("test", 0.15, "Share of the pictures to measure with, once.")
flags.DEFINE_integer("image_size", None, "Side of the pictures; by default that of the pretrained network's.", 8)
flags.DEFINE_integer("epochs", None, "Of training the body, at most; 0 trains the classifier alone.", 0)
flags.DEFINE_integer("batch_size", 32, "Pictures per step.", 1)
flags.DEFINE_float(
    "learning_rate", None, "Highest one, of the classifier; by default 0.003, then 0.0003 where that is of no use.", 0.0
)
flags.DEFINE_float("rate_decay", 0.8, "Factor of the learning rate from one stage to the one before it.", 0.0, 1.0)
flags.DEFINE_string("freeze_until", None, "First part that trains, as stage3; what comes before it stays as it is.")
flags.DEFINE_enum("batch_norm", "frozen", ["frozen", "trained"], "Whether batch normalisation stays as it is.")
flags.DEFINE_multi_enum("augment", ["crop", "flip"], ["crop", "flip", "none"], "May be repeated; digits: crop alone.")
flags.DEFINE_bool("balanced", False, "Weigh classes so that all count alike.")
flags.DEFINE_integer("patience", None, "Epochs without fewer mistakes after which training stops.", 1)
flags.DEFINE_integer("seed", 0, "Of the split, the new classifier, order and augmentation.", 0)
flags.DEFINE_enum("dtype", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Precision of the layers.")

for share in ("validation", "test"):
    flags.register_validator(share, lambda value: 0 < value < 1, "it must be a share between 0 and 1.")

MODEL = "model.keras"


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        finetune(pathlib.Path(FLAGS.out))
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


def finetune(out):
    """Trains, measures and writes what the flags say; prints the test error and how to load the model.

    Args:
        out: folder to fill.

    Raises:
        FileExistsError: it holds a model.
        ValueError, OSError, ImportError: as `train.finetune_data.open_labelled` and `keras_resv2.fine_tune`.
    """
    if (out / MODEL).exists():
        raise FileExistsError(f"{out} holds a model: choose another --out.")
    card = pretrained_card(FLAGS.model)
    size = (FLAGS.image_size, FLAGS.image_size) if FLAGS.image_size else card.image_shape[:2]
    parts = open_labelled(FLAGS.data, FLAGS.data_dir, size, (FLAGS.validation, FLAGS.test), FLAGS.seed, FLAGS.damaged)
    for problem in parts.damaged:
        print(f"left out: {problem}")
    counts = ", ".join(f"{len(getattr(parts, part)[1]):,} to {verb}" for part, verb in VERBS.items())
    print(f"{len(parts.class_names)} classes, {size[0]}x{size[1]} pixels: {counts}", flush=True)

    keras.utils.set_random_seed(FLAGS.seed)
    model = from_pretrained(FLAGS.model, classes=len(parts.class_names), input_shape=(*size, 3), dtype=FLAGS.dtype)
    if FLAGS.freeze_until:
        freeze(model, until=FLAGS.freeze_until)
    settings = {name: FLAGS[name].value for name in SETTINGS}
    augment = tuple(name for name in FLAGS.augment if name != "none")
    model, history = fine_tune(
        model, parts.train, parts.validation, **settings, augment=augment,
        class_weight="balanced" if FLAGS.balanced else None,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / MODEL)
    settings |= {
        "augment": augment,
        "balanced": FLAGS.balanced,
        "freeze_until": FLAGS.freeze_until,
        "dtype": FLAGS.dtype,
    }
    report = write_report(out, model, history, parts, card, settings)
    folder = write_weight_folder(out, model, report, card, FLAGS.data, parts.test)
    print(json.dumps({key: report[key] for key in ("validation_error", "test_error", "test_images")}))
    print(f"keras-resv2 predict {folder} PICTURE...")
    print(f'import keras, keras_resv2; model = keras.models.load_model("{out / MODEL}")')


VERBS = {"train": "train on", "validation": "choose by", "test": "measure with"}
SETTINGS = ("epochs", "learning_rate", "rate_decay", "batch_norm", "batch_size", "patience", "seed")

if __name__ == "__main__":
    run(main)
