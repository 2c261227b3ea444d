"""Prepares recipe, data and network of a run from its configuration."""

import dataclasses
from typing import NamedTuple

import keras

from keras_resv2.architectures import find_architecture
from keras_resv2.builders import build
from keras_resv2.startup import print_stderr
from train.checkpoint import is_intact
from train.data.inputs import Input, open_input
from train.data.mixing import MixedBatches
from train.devices import check_recipe, sync_batch_norm
from train.distillation import DistilledBatches, open_teachers
from train.environment import slow_precision
from train.initial_weights import check_kind, find_weights, set_initial_weights
from train.recipe import Recipe
from train.run_files import newest_checkpoints, pixels_of_older_run
from train.stochastic_depth import SwitchedNetwork, UnitSampler


class Prepared(NamedTuple):
    """The inputs of the training loop.

    Attributes:
        recipe: `train.recipe.Recipe`, with its steps counted.
        data: `train.data.inputs.Input`, whose source yields the batches of the recipe.
        model: the network, or the wrapper of it that is trained.
        units: `train.stochastic_depth.UnitSampler`; None if every step trains all units.
        teacher: name, version and SHA-256 of the teacher, for run.json; a list for several, None without one.
    """

    recipe: Recipe
    data: Input
    model: keras.Model
    units: UnitSampler | None
    teacher: dict | None


def prepare(config, devices):
    """Prepares recipe, data and network of a run.

    Args:
        config: `RunConfig`.
        devices: `train.devices.Devices`.

    Returns:
        `Prepared`.
    """
    recipe = config.values
    check_recipe(recipe, devices)
    if devices.main and (warning := slow_precision(recipe.dtype)):
        _warn(warning)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(recipe.dtype)
    data = open_input(config.dataset, config.data_dir, recipe, config.seed, config.resize, config.cache, devices)
    data = dataclasses.replace(data, pixels=pixels_of_older_run(config.out) or data.pixels)
    model = build(
        config.model,
        **config.arguments,
        **dict.fromkeys(config.forms, True),
        preprocessing=data.pixels,
        classes=len(data.class_names),
        input_shape=data.image_shape if recipe.image_size is None else (None, None, 3),
        classifier_activation=None,
    )
    if config.initial_weights:
        _set_initial_weights(model, config)
    model, recipe = sync_batch_norm(model, devices), recipe.for_images(data.train_images)
    if devices.main and recipe.warmup_steps >= recipe.steps:
        _warn(
            f"the warm-up ({recipe.warmup_steps} steps) covers the whole run ({recipe.steps} steps), at a "
            f"learning rate of {recipe.warmup_rate:g}; to follow the schedule, pass --set warmup_steps=0."
        )
    units = teacher = None
    if recipe.leaves_units_out:
        model = SwitchedNetwork(model, scaled=recipe.survival is not None)
        units = UnitSampler(recipe, len(model.unit_names), config.seed)
    source = data.source
    if recipe.mixup or recipe.cutout:
        source = MixedBatches(source, recipe, config.seed)
    if recipe.teacher:  # after the network, whose initial weights depend on previous random draws
        networks, teacher = open_teachers(recipe.teacher, data)
        source = DistilledBatches(source, *networks)
    return Prepared(recipe, dataclasses.replace(data, source=source), model, units, teacher)


def _set_initial_weights(model, config):
    """Sets the initial weights, which a run with an intact checkpoint can do without."""
    try:
        found = find_weights(config.initial_weights)
    except (ValueError, OSError):
        checkpoints = [] if config.out is None else newest_checkpoints(config.out)
        if not any(map(is_intact, checkpoints)):
            raise
        return
    check_kind(config.initial_weights, model, find_architecture(config.model).arguments(**config.arguments))
    set_initial_weights(model, *found)


def _warn(text):
    print_stderr(f"warning: {text}")
