"""keras-resv2 finetune NAME --data FOLDER --out DIR"""

import os
import pathlib
import shlex

from keras_resv2.argument_checks import check_choice
from keras_resv2.cli.terminal import check_seed, output_folder, print_json, start_backend
from keras_resv2.data import find_splits
from keras_resv2.files import create_folder
from keras_resv2.pretrained import from_pretrained, list_pretrained, pretrained_card, weight_path
from keras_resv2.startup import print_stderr

MODEL, INTERRUPTED = "model.keras", "interrupted.keras"
PURPOSES = {"train": "to train on", "validation": "to choose the weights by", "test": "to measure the error with"}
TRAINING = ("epochs", "learning_rate", "rate_decay", "batch_norm", "batch_size", "patience", "seed")
# Of this command and of train.finetune: default and help.
SETTINGS = {
    "validation": (
        0.15,
        "fraction of the images used to choose the best weights, if the data have no validation split (default 0.15)",
    ),
    "test": (0.15, "fraction of the images used to measure the error, if the data have no test split (default 0.15)"),
    "image_size": (None, "side of the images in pixels; default: that of the pretrained network"),
    "epochs": (None, "largest number of epochs of the backbone, for each learning rate; 0 trains the classifier alone"),
    "batch_size": (32, "images per step (default 32)"),
    "learning_rate": (
        None,
        "highest learning rate of the backbone (default: 0.003, then 0.0003 if no better than the classifier alone)",
    ),
    "rate_decay": (0.8, "factor of the learning rate from one stage to the one before it (default 0.8)"),
    "patience": (
        None,
        "epochs without fewer validation mistakes after which training stops (default: half of the epochs; all of them "
        "after a cross-validation)",
    ),
    "seed": (0, "seed of the split, the folds, the new classifier, order and augmentation (default 0)"),
}
LEAST = {
    "image_size": 8,
    "epochs": 0,
    "batch_size": 1,
    "learning_rate": 0.0,
    "rate_decay": 0.0,
    "patience": 1,
    "seed": 0,
}
KINDS = {"image_size": int, "epochs": int, "batch_size": int, "patience": int, "seed": int}
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network, such as preact_resnet20-cifar10")
    parser.add_argument("--data", required=True, help="folder of class folders, or a dataset of tensorflow-datasets")
    parser.add_argument("--out", required=True, help="folder for the model and its report; must not contain a model")
    parser.add_argument("--data_dir", help="directory of tensorflow-datasets; default: the standard one")
    parser.add_argument("--damaged", choices=("skip", "raise"), default="skip", help="skip damaged images, or stop")
    for name, (default, text) in SETTINGS.items():
        parser.add_argument(f"--{name}", type=KINDS.get(name, float), default=default, help=text)
    parser.add_argument("--freeze_until", help="first part that trains, such as stage3; layers before it are frozen")
    parser.add_argument(
        "--batch_norm",
        choices=("frozen", "trained"),
        default="frozen",
        help="whether batch normalization is trained (default frozen)",
    )
    parser.add_argument(
        "--augment",
        choices=("crop", "flip", "none"),
        action="append",
        help="augmentation; may be repeated (default: crop and flip; use only crop for digits and text)",
    )
    parser.add_argument("--balanced", action="store_true", help="give all classes the same weight")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision of the layers (default float32)")


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
    """Fine-tunes a network and writes the model and its report; prints the errors and how to use the model.

    Args:
        out: folder to fill, a `pathlib.Path`.
        name: of the pretrained network.
        settings: dictionary with data, data_dir, damaged, freeze_until, batch_norm, augment, balanced, dtype and the
            keys of `SETTINGS`.
        environment: dictionary of backend, versions, commit and hardware, for the report.
        quiet: whether to print nothing.

    Returns:
        The content of report.json, a dictionary.

    Raises:
        FileExistsError: if the folder contains a model or its weight folder.
        ValueError, OSError, ImportError: as `keras_resv2.transfer.finetune_data.load_finetune_data` and
            `keras_resv2.fine_tune`.
    """
    import keras

    from keras_resv2.transfer import fine_tune, freeze
    from keras_resv2.transfer.finetune_data import load_finetune_data
    from keras_resv2.transfer.run_report import draw_report, weight_folder_of, write_report, write_weight_folder

    say = (lambda *words: None) if quiet else (lambda *words: print(*words, flush=True))
    for key in ("validation", "test"):
        if not 0 < settings[key] < 1:
            raise ValueError(f"--{key}={settings[key]}: it must be a fraction between 0 and 1.")
    if settings["validation"] + settings["test"] >= 1:
        raise ValueError("--validation and --test must leave images to train on: together they must be below 1.")
    for key, least in LEAST.items():
        if settings[key] is not None and not settings[key] >= least:
            raise ValueError(f"--{key}={settings[key]}: it must be at least {least}.")
    if settings["seed"] is not None:
        check_seed(settings["seed"])
    for key in ("learning_rate", "rate_decay"):
        if settings[key] == 0:
            raise ValueError(f"--{key}=0: it must be above 0; to train only the classifier, use --epochs 0.")
    check_choice("damaged", settings["damaged"], ("skip", "raise"))
    if (output_folder(out) / MODEL).exists():
        raise FileExistsError(f"{out} contains a model: choose another --out.")
    card = pretrained_card(name)
    weight_path(card)  # downloads and converts, if necessary, before the images are read
    card = pretrained_card(name)
    if weight_folder_of(out, card, settings["data"]).exists():
        raise FileExistsError(f"{out} contains the weights of another fine-tuning: choose another --out.")
    folder = pathlib.Path(settings["data"])
    places = (list(find_splits(folder).values()) or [folder]) if folder.is_dir() else []
    if any(out.resolve().is_relative_to(place.resolve()) for place in places):
        raise ValueError(f"--out {out} must not be in --data: it would look like a class there.")
    size = (settings["image_size"],) * 2 if settings["image_size"] else card.image_shape[:2]
    if settings["freeze_until"] or settings["image_size"]:  # both are checked before the images are read
        network = from_pretrained(name, input_shape=(*size, 3))
        if settings["freeze_until"]:
            freeze(network, until=settings["freeze_until"])
        del network  # its memory is needed for the training
    shares = settings["validation"], settings["test"]
    data = load_finetune_data(
        settings["data"], settings["data_dir"], size, shares, settings["seed"], settings["damaged"]
    )
    for problem in data.damaged:
        say(f"skipped: {problem}")
    counts = ", ".join(f"{len(getattr(data, split)[1]):,} {purpose}" for split, purpose in PURPOSES.items())
    say(f"{len(data.class_names)} classes, {size[0]}x{size[1]} pixels: {counts}")

    create_folder(out)  # before the training, whose result would be lost
    keras.utils.set_random_seed(settings["seed"])
    model = from_pretrained(name, classes=len(data.class_names), input_shape=(*size, 3), dtype=settings["dtype"])
    if settings["freeze_until"]:
        freeze(model, until=settings["freeze_until"])
    training = {key: settings[key] for key in TRAINING}
    augment = tuple(kind for kind in settings["augment"] if kind != "none")
    try:
        model, history = fine_tune(
            model, data.train, data.validation, **training, augment=augment, verbose=int(not quiet),
            class_weight="balanced" if settings["balanced"] else None,
        )  # fmt: skip
    except BaseException:  # such as Ctrl-C, a diverged training, a closed pipe or too little memory
        if getattr(model, "optimizer", None) is None:  # `fine_tune` compiles it, after the classifier
            raise
        _save(model, out / INTERRUPTED)
        print_stderr(f"{out / INTERRUPTED} has the best weights so far, which were not evaluated.")
        raise
    _save(model, out / MODEL)
    kept = {"augment": augment} | {key: settings[key] for key in ("balanced", "freeze_until", "dtype")}
    report, scores = write_report(out, model, history, data, card, training | kept, environment)
    folder = write_weight_folder(out, model, report, card, name, settings["data"], data.test)
    for split, images in (("validation", len(data.validation[1])), ("test", report["test_images"])):
        low, high = report[f"{split}_interval"]
        say(f"{split} error {report[f'{split}_error']:.2f} % of {images} images (95 %: {low:.1f} to {high:.1f})")
    say(f"{folder}: weights and card")
    say(f"keras-resv2 predict {shlex.quote(place_of(out))} IMAGE...")
    say(f'import keras, keras_resv2; model = keras.models.load_model("{(out / MODEL).as_posix()}")')
    draw_report(out, scores, history, data, card)  # last, because nothing else depends on it
    return report


def place_of(out: pathlib.Path) -> str:
    """Returns the path of a folder as text that is not the name of published weights, nor of a version.

    Example:

    >>> place_of(pathlib.Path("flowers")), place_of(pathlib.Path("resnet20-cifar10"))
    ('flowers', './resnet20-cifar10')
    """
    place = str(out)
    return os.path.join(os.curdir, place) if "@" in place or place in list_pretrained() else place


def _save(model, path):
    """Saves a model atomically: whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")  # Keras needs the ending
    try:
        model.save(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
