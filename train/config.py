"""The configuration of a run: created from the flags, written to run.json, and converted to a command."""

import dataclasses
import json
import pathlib
import shlex

from keras_resv2.architectures import find_architecture
from keras_resv2.argument_checks import check_choice
from keras_resv2.data import DATASETS
from train.recipe import Recipe
from train.recipes import RECIPES

ARGUMENTS = ("activation", "shortcut", "projection", "stride_on", "stem", "width")  # of the network
CHOICES = {"projection": ("A", "B", "C"), "stride_on": ("1x1", "3x3"), "stem": ("cifar", "imagenet")}
FORMS = ("rolled", "rematerialize")  # how the network is computed; does not affect its weights
RECIPE_FLAGS = ("steps", "batch_size", "weight_decay", "image_size", "dtype", "units_per_batch")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Network, data, recipe and location of a run.

    Attributes:
        model: name of an architecture.
        recipe: name of a row of `train.recipes.RECIPES`.
        values: the `Recipe` itself, with overridden values.
        dataset: name of a dataset.
        arguments: non-default arguments of the network.
        forms: the enabled ones of `FORMS`.
        initial_weights: pretrained name, run directory or weight file to start from; None for random weights.
        seed: random seed of the initial weights, the order of images and augmentation.
        resize: whether to resize images of another size to the dataset's.
        data_dir, out, tensorboard: directories on this machine.
        cache: whether to keep image files in memory.
        evaluate_every: epochs between measurements of the test error.
        checkpoint_seconds: seconds between checkpoints.

    Raises:
        ValueError: if there is no such architecture or recipe.

    Example:

    >>> config = RunConfig("resnet20", "fast", RECIPES["fast"].with_values(["flip=random"]), seed=3)
    >>> config.command()
    'python -m train.train --model resnet20 --recipe fast --set flip=random --seed 3'
    """

    model: str
    recipe: str
    values: Recipe
    dataset: str = "cifar10"
    arguments: dict = dataclasses.field(default_factory=dict)
    forms: tuple[str, ...] = ()
    initial_weights: str | None = None
    seed: int = 0
    resize: bool = False
    data_dir: str | None = None
    out: pathlib.Path | None = None
    tensorboard: pathlib.Path | None = None
    cache: bool = False
    evaluate_every: int = 5
    checkpoint_seconds: int = 60

    def __post_init__(self):
        find_architecture(self.model)
        check_choice("recipe", self.recipe, RECIPES)

    def for_seed(self, seed):
        """Returns the configuration of one of several seeds, with its own directory inside `out`."""
        name = f"seed{seed}"
        tensorboard = self.tensorboard and self.tensorboard / name
        return dataclasses.replace(self, seed=seed, out=self.out / name, tensorboard=tensorboard)

    def chosen(self, recipe):
        """Returns the settings that do not depend on the data, in the form of run.json.

        Args:
            recipe: the `Recipe` with a known number of steps.

        Returns:
            JSON-serialisable dictionary.
        """
        settings = {
            "model": self.model,
            "arguments": self.arguments,
            "dataset": self.dataset,
            "recipe": self.recipe,
            "recipe_values": json.loads(json.dumps(dataclasses.asdict(recipe))),
            "seed": self.seed,
            **{name: True for name in (*(["resize"] if self.resize else []), *self.forms)},
        }
        if self.initial_weights:
            settings["initial_weights"] = self.initial_weights
        return settings

    def settings(self, recipe, data, teacher=None):
        """Returns everything that determines the result, in the form of run.json.

        Args:
            recipe: the `Recipe` with a known number of steps.
            data: `train.data.inputs.Input`.
            teacher: name, version and SHA-256 of the teacher; a list for several, None without one.

        Returns:
            JSON-serialisable dictionary.
        """
        settings = self.chosen(recipe)
        settings["dataset_sha256"] = data.fingerprints
        settings["train_images"], settings["test_images"] = data.train_images, data.test_images
        settings["preprocessing"] = [list(values) for values in data.pixels]
        settings.update({name: list(getattr(data, name)) for name in data.from_data})
        if teacher:
            settings["teacher"] = teacher
        return settings

    def command(self, places=False):
        """Returns the command line of this run.

        Args:
            places: whether to include directories, which are specific to this machine, and options that only affect
                monitoring.

        Returns:
            The command, quoted for a shell.
        """
        return shlex.join(["python", "-m", "train.train", *self.flags(places)])

    def flags(self, places=False):
        """Returns the flags of `train.train` for this run as a list, which `command` joins."""
        words = ["--model", self.model]
        if self.dataset != "cifar10":
            words += ["--dataset", self.dataset]
        words += ["--recipe", self.recipe]
        for field in dataclasses.fields(Recipe):
            value = getattr(self.values, field.name)
            if value == getattr(RECIPES[self.recipe], field.name):
                continue
            flag = field.name in RECIPE_FLAGS and isinstance(value, (int, float, str))
            if flag and not (field.name == "image_size" and value <= 1):  # fractions are no value of the flag
                words += [f"--{field.name}", str(value)]
            else:
                words += ["--set", f"{field.name}={value}"]
        for name, value in self.arguments.items():
            words += [f"--{name}", str(value)]
        words += [f"--{name}" for name in (*(["resize"] if self.resize else []), *self.forms)]
        if self.initial_weights:
            words += ["--initial_weights", self.initial_weights]
        words += ["--seed", str(self.seed)]
        if places:
            for name in ("data_dir", "out", "tensorboard", "evaluate_every", "checkpoint_seconds"):
                value, usual = getattr(self, name), getattr(type(self), name)
                words += [] if value == usual else [f"--{name}", str(value)]
            words += ["--cache"] if self.cache else []
        return words


def check_options(dataset, resize, cache):
    """Raises ValueError for an option that has no effect on the dataset.

    Args:
        dataset: name of the dataset.
        resize, cache: values of the options; only datasets that fit into memory are resized, only others are cached.
    """
    streamed = DATASETS[dataset].streamed
    for option, given, applies in (("resize", resize, not streamed), ("cache", cache, streamed)):
        if given and not applies:
            raise ValueError(f"{option} has no effect on --dataset {dataset}: omit it.")
