"""keras-resv2 finetune NAME --data FOLDER --out DIR"""

import pathlib

from keras_resv2.argument_checks import check_choice
from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.pretrained import from_pretrained, pretrained_card

MODEL = "model.keras"
VERBS = {"train": "train on", "validation": "choose by", "test": "measure with"}
TRAINING = ("epochs", "learning_rate", "rate_decay", "batch_norm", "batch_size", "patience", "seed")
# Of the command line, here and in train.finetune: default and what it is.
SETTINGS = {
    "validation": (0.15, "share of the images to choose the best weights by"),
    "test": (0.15, "share of the images to measure with, once"),
    "image_size": (None, "side of the images; by default that of the pretrained network's"),
    "epochs": (None, "of training the body, for each learning rate, at most; 0 trains the classifier alone"),
    "batch_size": (32, "images per step"),
    "learning_rate": (None, "highest one, of the classifier; by default 0.003, then 0.0003 where that is of no use"),
    "rate_decay": (0.8, "factor of the learning rate from one stage to the one before it"),
    "patience": (None, "epochs without fewer mistakes after which training stops"),
    "seed": (0, "of the split, the new classifier, order and augmentation"),
}
KINDS = {"image_size": int, "epochs": int, "batch_size": int, "patience": int, "seed": int}
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, as preact_resnet20-cifar10")
    parser.add_argument("--data", required=True, help="folder of class folders, or a dataset of tensorflow-datasets")
    parser.add_argument("--out", required=True, help="folder for the model and its card; must not hold one yet")
    parser.add_argument("--data_dir", help="where tensorflow-datasets has the dataset; by default its own directory")
    parser.add_argument("--damaged", choices=("skip", "raise"), default="skip", help="what to do about damaged files")
    for name, (default, words) in SETTINGS.items():
        parser.add_argument(f"--{name}", type=KINDS.get(name, float), default=default, help=words)
    parser.add_argument("--freeze_until", help="first part that trains, as stage3; what comes before it stays as it is")
    parser.add_argument("--batch_norm", choices=("frozen", "trained"), default="frozen", help="batch normalisation")
    parser.add_argument(
        "--augment", choices=("crop", "flip", "none"), action="append", help="may be repeated; digits: crop alone"
    )
    parser.add_argument("--balanced", action="store_true", help="weigh classes so that all count alike")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision of the layers")


def run(arguments):
    """keras-resv2 finetune NAME --data FOLDER --out DIR"""
    start_backend()
    from keras_resv2 import machine

    environment = {"versions": machine.versions(), "hardware": machine.hardware(), "commit": None}
    import keras

    environment["backend"] = keras.backend.backend()
    settings = {**vars(arguments), "augment": arguments.augment or ["crop", "flip"]}
    report = finetune(pathlib.Path(arguments.out), arguments.name, settings, environment, quiet=arguments.json)
    if arguments.json:
        print_json(report)
    return 0


def finetune(out, name, settings, environment, quiet=False):
    """Trains, measures and writes; prints the errors and how to use the network.

    Args:
        out: folder to fill, a `pathlib.Path`.
        name: of the pretrained network.
        settings: dictionary with data, data_dir, damaged, freeze_until, batch_norm, augment, balanced, dtype and the
            keys of `SETTINGS`.
        environment: dictionary of backend, versions, commit and hardware, for the card.
        quiet: whether nothing is printed.

    Returns:
        The card, a dictionary.

    Raises:
        FileExistsError: the folder holds a model.
        ValueError, OSError, ImportError: as `keras_resv2.transfer.parts.open_labelled` and `keras_resv2.fine_tune`.
    """
    import keras

    from keras_resv2.transfer import fine_tune, freeze
    from keras_resv2.transfer.parts import open_labelled
    from keras_resv2.transfer.run_report import write_report, write_weight_folder

    say = (lambda *words: None) if quiet else (lambda *words: print(*words, flush=True))
    for share in ("validation", "test"):
        if not 0 < settings[share] < 1:
            raise ValueError(f"--{share}={settings[share]}: it must be a share between 0 and 1.")
    check_choice("damaged", settings["damaged"], ("skip", "raise"))
    if (out / MODEL).exists():
        raise FileExistsError(f"{out} holds a model: choose another --out.")
    card = pretrained_card(name)
    size = (settings["image_size"],) * 2 if settings["image_size"] else card.image_shape[:2]
    shares = settings["validation"], settings["test"]
    parts = open_labelled(settings["data"], settings["data_dir"], size, shares, settings["seed"], settings["damaged"])
    for problem in parts.damaged:
        say(f"left out: {problem}")
    counts = ", ".join(f"{len(getattr(parts, part)[1]):,} to {verb}" for part, verb in VERBS.items())
    say(f"{len(parts.class_names)} classes, {size[0]}x{size[1]} pixels: {counts}")

    keras.utils.set_random_seed(settings["seed"])
    model = from_pretrained(name, classes=len(parts.class_names), input_shape=(*size, 3), dtype=settings["dtype"])
    if settings["freeze_until"]:
        freeze(model, until=settings["freeze_until"])
    training = {key: settings[key] for key in TRAINING}
    augment = tuple(kind for kind in settings["augment"] if kind != "none")
    model, history = fine_tune(
        model, parts.train, parts.validation, **training, augment=augment, verbose=int(not quiet),
        class_weight="balanced" if settings["balanced"] else None,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / MODEL)
    kept = {"augment": augment} | {key: settings[key] for key in ("balanced", "freeze_until", "dtype")}
    report = write_report(out, model, history, parts, card, training | kept, environment)
    folder = write_weight_folder(out, model, report, card, name, settings["data"], parts.test)
    for part, images in (("validation", len(parts.validation[1])), ("test", report["test_images"])):
        low, high = report[f"{part}_interval"]
        say(f"{part} error {report[f'{part}_error']:.2f} % of {images} images (95 %: {low:.1f} to {high:.1f})")
    say(f"{folder}: weights and card")
    say(f"keras-resv2 predict {out} IMAGE...")
    say(f'import keras, keras_resv2; model = keras.models.load_model("{out / MODEL}")')
    return report
