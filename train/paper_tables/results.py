"""Collects our errors from the cards of published weights and the folders of finished runs."""

import dataclasses
import itertools
import json
import pathlib

from keras_resv2.data import DATASETS, chance_error
from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.models.shortcuts import SHORTCUTS
from keras_resv2.storage.card import read_card
from keras_resv2.storage.local import CARD
from train.paper_tables.figures import network
from train.recipe import completed
from train.recipes import RECIPES
from train.run_files import DIVERGED, RUN_FILE, WALL_SECONDS, completed_settings, run_name, without_places

APART = ("dtype", "epochs")  # values in which equal recipes may differ: epochs are steps, which are always recorded


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run with a measured error.

    Attributes:
        dataset: key of `keras_resv2.data.DATASETS`.
        network: see `train.paper_tables.figures.network`.
        recipe: name of the recipe.
        values: values of the recipe, by field.
        seed: seed of the run.
        error: test error in percent.
        origin: card or folder of the run.
        diverged: whether its loss became NaN or infinite; the error is then that of random guessing.
    """

    dataset: str
    network: tuple
    recipe: str
    values: dict
    seed: int
    error: float
    origin: str
    diverged: bool = False

    def __post_init__(self):
        if not 0 <= self.error <= 100:
            raise ValueError(f"the test error {self.error} is not a percentage")
        if not isinstance(self.values.get("steps"), int):
            raise ValueError("its recipe has no steps")

    @property
    def steps(self):
        return self.values["steps"]

    @property
    def way(self):
        """How it was trained, except for the precision: the median is taken over runs of the same way."""
        return self.recipe, as_json(without(self.values, *APART))

    @property
    def identity(self):
        """A key that is equal for a run and the card that publishes it."""
        return self.dataset, self.network, self.recipe, as_json(without(self.values, "epochs")), self.seed

    @property
    def changes(self):
        """Returns values that differ from the named recipe as text, except steps and precision."""
        usual = recipe_values(RECIPES[self.recipe]) if self.recipe in RECIPES else self.values
        apart = ("steps", *APART)
        return [f"{k}={v}" for k, v in self.values.items() if k not in apart and v != usual.get(k)]


def collect(weights_dir, *runs):
    """Collects all measured runs on complete datasets of the registry, each once.

    Args:
        weights_dir: folder of published weights.
        *runs: folders with the folders of runs; None is ignored.

    Returns:
        List of `Run`. For a published run the error is that of the card, which is that of the file in float32.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if a card or a run.json is damaged.
    """
    runs = [folder for folder in runs if folder is not None]
    for folder in (weights_dir, *runs):
        if not pathlib.Path(folder).is_dir():
            raise FileNotFoundError(f"the folder {folder} does not exist.")
    cards = [path for path in pathlib.Path(weights_dir).glob(f"*/*/{CARD}") if path.parent.name.isdigit()]
    # The newest version first, which takes precedence if two versions have the same run.
    cards.sort(key=lambda path: (path.parent.parent.name, -int(path.parent.name)))
    records = [path for folder in runs for path in sorted(pathlib.Path(folder).glob(f"**/{RUN_FILE}"))]
    # If a seed was trained twice, a finished run takes precedence over a diverged one.
    trained = sorted(itertools.chain(*map(_finished, records)), key=lambda run: run.diverged)
    found = {}
    for run in itertools.chain(*map(_published, cards), trained):
        found.setdefault(run.identity, run)
    return list(found.values())


def _published(path):
    """Returns the runs of a card, one for each seed."""
    card = read_card(path)
    examples = _examples(card.dataset)
    if not _whole(card.dataset, card.train_images or examples.get("train"), card.test_images):
        return []
    try:
        made = network(card.architecture, card.arguments)
        values = completed({"steps": card.steps, **card.recipe_values})
        return [
            Run(card.dataset, made, _way(card.recipe, card.initial_weights), values, int(seed), error, card.full_name)
            for seed, error in card.seed_errors.items()
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is a damaged card: {str(error).rstrip('.')}.") from None


def _finished(path):
    """Returns the run of a run.json; none if it is unfinished or on other images. A diverged run counts as failed."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not _is_ours(record["settings"].get("arguments", {})):
            return []
        settings = completed_settings(record["settings"])
        dataset = settings["dataset"]
        if not _whole(dataset, settings["train_images"], settings["test_images"]):
            return []
        made = network(settings["model"], settings["arguments"])
        values = completed(without_places(record["settings"]["recipe_values"]))
        if DIVERGED in record:
            origin, error = (
                f"{path.parent}, diverged at step {record[DIVERGED]:,}",
                chance_error(DATASETS[dataset].classes),
            )
        elif WALL_SECONDS in record:
            origin, error = str(path.parent), record["test_error_at_end"]
        else:
            return []
        recipe = _way(settings["recipe"], settings.get("initial_weights"))
        return [Run(dataset, made, recipe, values, settings["seed"], error, origin, DIVERGED in record)]
    except KeyError as error:
        raise ValueError(f"{path} is a damaged run.json: it has no {error}.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is a damaged run.json: {str(error).rstrip('.')}.") from None


def _is_ours(arguments):
    """Returns whether a network has a shortcut and an order of activations of this package, not of its user."""
    tables = {"shortcut": SHORTCUTS, "activation": ACTIVATIONS}
    names = {key: str(arguments.get(key, "")).partition("(")[0] for key in tables}
    return all(not name.isidentifier() or name in tables[key] for key, name in names.items())


def _way(recipe, initial_weights):
    """Returns the name of a recipe; with initial weights it is a different one, which is not a reproduction."""
    if not initial_weights:
        return recipe
    # A card describes a run as "run <name>: <command>", run.json has its folder.
    place = initial_weights.removeprefix("run ").partition(": ")[0]
    path = pathlib.PurePath(place)
    if "://" not in place:
        place = f"{path.parent.name}@{path.name}" if path.name.isdigit() else run_name(path)
    return f"{recipe} from {place}"


def _whole(dataset, train_images, test_images):
    """Returns whether a run used a complete dataset of the registry: the papers do not use parts of a dataset."""
    return bool(_examples(dataset)) and _examples(dataset) == {"train": train_images, "test": test_images}


def _examples(dataset):
    return DATASETS[dataset].examples if dataset in DATASETS else {}


def recipe_values(recipe):
    """Returns the fields of a `Recipe` in the form of run.json."""
    return json.loads(as_json(dataclasses.asdict(recipe)))


def without(values, *names):
    """Returns recipe values without some of them."""
    return {key: value for key, value in values.items() if key not in names}


def as_json(values):
    """Returns text that is equal for equal values."""
    return json.dumps(values, sort_keys=True)
