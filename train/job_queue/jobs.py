"""The job file: the runs of a sweep, checked before any starts.

# For all jobs:
[defaults]
recipe = "paper"

[[job]]
model = "resnet110"
arguments = {shortcut = "exclusive_gating(bias=-6)"}
values = {dtype = "mixed_bfloat16"}
# Or a count; each seed is a separate run.
seeds = [0, 1, 2]
# The highest starts first; 0 by default.
priority = 10
"""

import dataclasses
import functools
import os
import pathlib
import re

import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.data import DATASETS
from keras_resv2.labels import class_spellings
from keras_resv2.models.shortcuts import NoShortcut
from keras_resv2.pretrained import pretrained_card
from train.config import ARGUMENTS, CHOICES, FORMS, RunConfig, check_options
from train.paper_tables.figures import network
from train.recipe import split_names
from train.recipes import RECIPES
from train.run_files import (
    WEIGHTS,
    check_teacher,
    completed_settings,
    is_run,
    load_record,
    newest_checkpoints,
    run_dataset,
)

try:
    import tomllib
except ImportError:  # Python 3.10
    try:
        import tomli as tomllib
    except ImportError:
        tomllib = None

KINDS = {  # types of the keys of a job
    "model": str,
    "recipe": str,
    "dataset": str,
    "name": str,
    "initial_weights": str,
    "values": dict,
    "arguments": dict,
    "seeds": (int, list),
    "priority": (int, float),
    "resize": bool,
    "cache": bool,
    "evaluate_every": int,
    "checkpoint_seconds": int,
    **dict.fromkeys(FORMS, bool),
}
WORDS = {str: "text", dict: "a table", bool: "true or false", int: "a whole number"}
PART = r"[A-Za-z0-9][A-Za-z0-9._=+-]*"
PLAIN_NAME = re.compile(rf"{PART}(/{PART})*")


class JobError(ValueError):
    """Raised when a job file is invalid.

    Attributes:
        lines: the problems, one line each.
    """

    def __init__(self, lines):
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of the queue.

    Attributes:
        name: name of its directory inside that of the sweep.
        config: `train.config.RunConfig`.
        priority: the highest starts first.
        train_images: number of training images; None if unknown before the run starts.
    """

    name: str
    config: RunConfig
    priority: float = 0.0
    train_images: int | None = None

    @functools.cached_property
    def place(self):
        """Absolute path of the run's directory."""
        return self.config.out.resolve()

    def needs(self, other):
        """Returns whether another run provides the initial weights or the teacher of this one."""
        return other is not self and other.place in self.places()

    def places(self):
        """Returns the set of absolute paths that the names of `sources` would have if they were directories."""
        return {pathlib.Path(source).resolve() for _, source in self.sources()}

    def sources(self):
        """Returns the weights that this run still needs: pairs of a setting, initial_weights or teacher, and a name.

        A run with a checkpoint no longer needs initial weights, a finished one nothing.
        """
        out = self.config.out
        if (out / WEIGHTS).exists():
            return []
        needs_start = self.config.initial_weights is not None and not newest_checkpoints(out)
        initial = [("initial_weights", self.config.initial_weights)] if needs_start else []
        return initial + [("teacher", name) for name in split_names(self.config.values.teacher or "") if name]

    @property
    def steps(self):
        """Number of updates of the weights; None if it depends on an unknown number of images."""
        recipe = self.config.values
        return recipe.for_images(self.train_images).steps if recipe.steps or self.train_images else None


def read_jobs(path, out, data_dirs=None):
    """Reads the runs of a job file.

    Args:
        path: path of the TOML file.
        out: directory of the sweep.
        data_dirs: dictionary from dataset to its directory or file; the key None applies to all others.

    Returns:
        List of `Job`, in the order of the file.

    Raises:
        JobError: if the file is invalid, with one line for each problem.
    """
    content = _read_toml(path)
    problems = [
        f"{path}: {key!r} is unknown; a job file has [defaults] and [[job]]."
        for key in content.keys() - {"defaults", "job"}
    ]
    defaults, tables = content.get("defaults", {}), content.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise JobError([f"{path}: a job file has one table [defaults] and one table [[job]] for each job."])
    if not tables:
        problems.append(f"{path} has no [[job]].")
    jobs, first = [], {}
    for number, table in enumerate(tables, 1):
        place = f"{path}, job {number}"
        try:
            for job in make_jobs(_with_defaults(table, defaults), out, data_dirs or {}):
                if job.name in first:
                    problems.append(
                        f"{place}: job {first[job.name]} also has the directory {job.name}; set another name."
                    )
                first.setdefault(job.name, number)
                jobs.append(job)
        except (ValueError, TypeError, OSError) as error:
            problems.append(f"{place}: {' '.join(str(error).split())}")
    shared, datasets = (data_dirs or {}).get(None), sorted({job.config.dataset for job in jobs})
    others = [name for name in datasets if name not in (data_dirs or {})]
    if shared is not None and os.path.isfile(shared) and len(others) > 1:
        problems.append(
            f"{path} has jobs of {' and '.join(others)}, and {shared} is one file: pass the location of each, such as "
            f"--data_dir {others[0]}=FILE --data_dir {others[1]}=FILE."
        )
    problems += [] if problems else _unfinishable(jobs, path, out)
    if problems:
        raise JobError(problems)
    return jobs


def _unfinishable(jobs, path, out):
    """Returns a message for each run whose initial weights or teacher neither exist nor are trained before it."""
    problems = []
    for job in jobs:
        for key, source in job.sources():
            if not _is_inside(source, out) or any(job.needs(other) for other in jobs):
                continue
            try:
                if os.sep in source and not pathlib.Path(source).exists():
                    raise ValueError(f"{key}={source!r} is not a run.")
                _check_existing(key, source, job.config.dataset)
            except ValueError as error:
                problems.append(f"{path}: {job.name}: {' '.join(str(error).split())} No job of this file trains it.")
    waiting = list(jobs)
    while ready := [job for job in waiting if not any(job.needs(other) for other in waiting)]:
        waiting = [job for job in waiting if job not in ready]
    return problems + [f"{path}: {job.name} can never start: it depends on a cycle of runs." for job in waiting]


def _is_inside(source, out):
    return pathlib.Path(out).resolve() in pathlib.Path(source).resolve().parents


def make_jobs(table, out, data_dirs):
    """Creates the runs of one job, one for each seed.

    Args:
        table: the job as a dictionary.
        out, data_dirs: see `read_jobs`.

    Returns:
        List of `Job`.

    Raises:
        ValueError, FileNotFoundError: if a key, a name or a value does not exist, or conflicts with another.
    """
    _check_keys(table)
    recipe_name, dataset = table.get("recipe", "fast"), table.get("dataset", "cifar10")
    check_choice("recipe", recipe_name, RECIPES)
    recipe = _recipe(recipe_name, table.get("values", {}))
    _check_dataset(dataset, recipe)
    arguments = {name: value if name == "width" else str(value) for name, value in table.get("arguments", {}).items()}
    for name in arguments:
        check_choice("argument", name, ARGUMENTS)
        if name in CHOICES:
            check_choice(name, arguments[name], CHOICES[name])
    layout, spec = network(table["model"], arguments)
    recipe.check_units(sum(layout.units))
    if recipe.leaves_units_out and table.get("rolled"):
        raise ValueError("rolled=true runs units in loops, which units_per_batch and survival cannot skip.")
    if recipe.leaves_units_out and isinstance(spec.shortcut, NoShortcut):
        raise ValueError(
            "units_per_batch and survival need shortcuts: units of a plain network (shortcut='none') cannot be skipped."
        )
    if recipe.mixup and recipe.batch_size % 2:
        raise ValueError(f"mixup={recipe.mixup} needs an even number of images per batch, not {recipe.batch_size}.")
    if recipe.crop == "shift" and DATASETS[dataset].image_shape:
        recipe.check_image_size(DATASETS[dataset].image_shape)
        recipe.check_cutout(DATASETS[dataset].image_shape)
    check_options(dataset, table.get("resize"), table.get("cache"))
    if table.get("rematerialize") and not table.get("rolled"):
        raise ValueError("rematerialize=true requires rolled=true.")
    data_dir = data_dirs.get(dataset, data_dirs.get(None))
    if data_dir is None and DATASETS[dataset].image_shape is None:
        raise ValueError(f"dataset={dataset!r} needs a data_dir.")
    if data_dir is not None and not os.path.exists(data_dir):
        raise FileNotFoundError(f"data_dir {data_dir} does not exist.")
    config = RunConfig(
        model=table["model"],
        recipe=recipe_name,
        values=recipe,
        dataset=dataset,
        arguments=arguments,
        forms=tuple(form for form in FORMS if table.get(form)),
        data_dir=data_dir,
        **{key: table[key] for key in _PASSED if key in table},
    )
    name = table.get("name") or _default_name(table, recipe_name, dataset)
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"name={name!r} is not a plain relative directory.")
    images = _count_images(dataset, data_dir)
    jobs = [
        Job(
            f"{name}-seed{seed}",
            dataclasses.replace(config, seed=seed, out=pathlib.Path(out) / f"{name}-seed{seed}"),
            float(table.get("priority", 0)),
            images,
        )
        for seed in _seeds(table.get("seeds", 1))
    ]
    for key, source in dict.fromkeys(pair for job in jobs for pair in job.sources()):
        if not _is_inside(source, out):  # inside, a run may make it first
            _check_existing(key, source, dataset)
    return jobs


def _check_existing(key, source, dataset):
    """Raises ValueError unless a source has weights: initial weights may be a file, a teacher is a network.

    A teacher must have the dataset's classes and image size, as far as these are known before the run.
    """
    row = DATASETS[dataset]
    path = pathlib.Path(source)
    if key == "initial_weights" and path.is_file():
        return
    try:
        if is_run(path):
            if key == "teacher":
                taught = run_dataset(completed_settings(load_record(path)["settings"]))
                check_teacher(source, row, [taught.class_names], taught.image_shape)
            elif not (path / WEIGHTS).exists():
                raise ValueError(f"it is a run that is not finished: it has no {WEIGHTS}.")
        else:
            card = pretrained_card(source)
            if key == "teacher" and row.class_names:
                check_teacher(source, row, class_spellings(card), tuple(card.image_shape))
    except (ValueError, OSError) as error:
        raise ValueError(f"{key}={source!r}: {error}") from None


_PASSED = ("initial_weights", "resize", "cache", "evaluate_every", "checkpoint_seconds")


def _read_toml(path):
    if tomllib is None:
        raise JobError(["job files require Python 3.11, or the package tomli: pip install tomli"])
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise JobError([f"{path}: {error.strerror or error}."]) from None
    except ValueError as error:
        raise JobError([f"{path} is not TOML: {error}."]) from None


def _with_defaults(table, defaults):
    """Completes a job with defaults, individually for each of its values and arguments."""
    merged = {**defaults, **table}
    for key in ("values", "arguments"):
        if isinstance(defaults.get(key), dict) and isinstance(table.get(key), dict):
            merged[key] = {**defaults[key], **table[key]}
    return merged


def _check_keys(table):
    for key, value in table.items():
        check_choice("key", key, KINDS)
        kinds = KINDS[key] if isinstance(KINDS[key], tuple) else (KINDS[key],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(
                f"{key}={value!r} must be {' or '.join(WORDS.get(kind, kind.__name__) for kind in kinds)}."
            )
    if "model" not in table:
        raise ValueError("model is missing.")
    for key, least in (("evaluate_every", 1), ("checkpoint_seconds", 0)):
        if table.get(key, least) < least:
            raise ValueError(f"{key}={table[key]} must be at least {least}.")


def _recipe(name, values):
    values = dict(values)
    rate = values.pop("learning_rate", None)  # like the flag of `train.train`
    if not isinstance(rate, (int, float, type(None))):
        raise ValueError(f"learning_rate={rate!r} must be a number.")
    recipe = RECIPES[name].with_values([f"{key}={_literal(value)}" for key, value in values.items()])
    return recipe if rate is None else recipe.with_peak(rate)


def _literal(value):
    """Formats a TOML value for `Recipe.with_values`: a word, or a Python literal with tuples instead of lists."""
    if isinstance(value, list):
        return f"({''.join(f'{repr(item) if isinstance(item, str) else _literal(item)}, ' for item in value)})"
    return str(value)


def _check_dataset(name, recipe):
    check_choice("dataset", name, DATASETS)
    if DATASETS[name].streamed != (recipe.crop == "scale"):
        raise ValueError(f"dataset={name!r} cannot be used with a recipe that has crop={recipe.crop}.")


def _seeds(seeds):
    if isinstance(seeds, int):
        seeds = list(range(seeds))
    if not seeds or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds):
        raise ValueError("seeds must be a count, at least 1, or a list of whole numbers, at least 0.")
    return seeds


def _default_name(table, recipe, dataset):
    """Builds a name from model, dataset, recipe and non-default values other than the precision."""
    # "exclusive_gating(bias=-6)" becomes exclusive_gating-6.
    arguments = [re.sub(r"[(, ]+\w+=-?", "-", str(v)).rstrip(")") for v in table.get("arguments", {}).values()]
    values = [f"{k}-{v}" for k, v in table.get("values", {}).items() if not isinstance(v, list) and k != "dtype"]
    name = "-".join([table["model"], *arguments, dataset, recipe, *values, *(f for f in FORMS if table.get(f))])
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", name)


def _count_images(dataset, data_dir):
    """Returns the number of training images from an .npz file or the registry; None if unknown."""
    if data_dir is None or not str(data_dir).endswith(".npz"):
        return DATASETS[dataset].examples.get("train")
    try:
        with np.load(data_dir, allow_pickle=False) as file:
            return len(file["y_train"])
    except Exception:  # damaged files raise many types; `train.train` reports the problem
        return None
