"""Initializes a run with trained weights of the same network, or of a shallower one whose units are repeated.

A residual network with n units per stage can be seen as integrating ``dx/dt = F(x)`` in n steps. If each unit is
repeated and its branch divided by the number of copies, twice as many steps of half the size follow the same path to
first order, so the deeper network starts close to the function of the shallower one (Chang et al. 2018, "Multi-level
Residual Networks from Dynamical Systems View", arXiv 1710.10348, section 3).
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resv2.architectures import find_architecture
from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.models.config import resolve_network
from keras_resv2.models.structure import check_structure, infer_structure
from keras_resv2.models.weights import set_weights, weight_names
from keras_resv2.pretrained import pretrained_card, weight_path
from keras_resv2.storage.local import pinned_name
from keras_resv2.storage.weight_file import read_structure, read_weights
from train.run_files import WEIGHTS, is_run, read_record

UNIT = re.compile(r"(stage\d+)_unit(\d+)_(.+)/(\w+)")


def find_weights(source: str) -> tuple[dict[str, np.ndarray], str]:
    """Reads weights, and returns a name that identifies them.

    Args:
        source: a pretrained name, a run directory of `train.train`, a weight folder, or a weight file.

    Returns:
        ``(arrays, name)``: arrays by ``<layer>/<variable>``; and a name that finds the same weights again: `source`,
        with the version of pretrained weights.

    Raises:
        FileNotFoundError: if a run directory does not contain weights yet.
        ValueError: if the weights do not exist, or the file is damaged.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return read_weights(path), source
    if is_run(path):
        if not (path / WEIGHTS).exists():
            raise FileNotFoundError(f"--initial_weights={source} is a run that is not finished: it has no {WEIGHTS}.")
        return read_weights(path / WEIGHTS), source
    card = pretrained_card(source)
    return read_weights(weight_path(card)), pinned_name(source, card)


def check_kind(source: str, model: keras.Model, network: Mapping[str, Any]) -> None:
    """Raises ValueError if weights come from another kind of network, even if their names and shapes match.

    Pixel statistics, depth and output stride may differ.

    Args:
        source: see `find_weights`.
        model: the network that starts from them.
        network: its arguments of `keras_resv2.models.config.resolve_network`.
    """
    path = pathlib.Path(source)
    if path.is_file():
        structure = {name: value for name, value in (read_structure(path) or {}).items() if name != "pixels"}
        check_structure(model, structure, f"--initial_weights={source}")
        return
    if is_run(path):
        settings = read_record(path)["settings"]
        name, arguments = settings["model"], settings["arguments"]
    else:
        card = pretrained_card(source)
        name, arguments = card.architecture, card.arguments
    theirs, ours = map(_kind, (find_architecture(name).arguments(**arguments), network))
    differ = [name for name in ours if ours[name] != theirs[name]]
    if differ:
        words = (", ".join(f"{name}={kind[name]}" for name in differ) for kind in (theirs, ours))
        raise ValueError(f"--initial_weights={source} has {next(words)}, but model {model.name!r} has {next(words)}.")


def _kind(network):
    """Returns what the outputs depend on apart from the weights, their shapes and the pixel statistics."""
    layout, spec = resolve_network(**network)
    of_spec = ("shortcut", "projection", "stride_on", "activated_shortcuts", "conv_bias")
    return {
        "activation": next(name for name, row in ACTIVATIONS.items() if row == spec.activation),
        **{name: getattr(spec, name) for name in of_spec},
        **{name: getattr(layout, name) for name in ("stem", "stride_in", "padding")},
    }


def set_initial_weights(model: keras.Model, arrays: dict[str, np.ndarray], name: str) -> None:
    """Sets the weights of a network from those of the same or a shallower network.

    Args:
        model: a network of this package, rolled or not.
        arrays: weights by ``<layer>/<variable>``, see `keras_resv2.storage.weight_file.read_weights`.
        name: name of the weights, for messages.

    Raises:
        ValueError: if they do not fit: other units, stages, width or number of classes, or more units; or if the
            network is deeper and repeating units would change the function.
    """
    units, had = _units(weight_names(model)), _units(arrays)
    if set(had) != set(units):
        stages = [", ".join(found) or "none" for found in (had, units)]
        raise ValueError(f"--initial_weights={name} has the stages {stages[0]}, but {model.name} has {stages[1]}.")
    deeper = {stage: count for stage, count in had.items() if count > units.get(stage, 0)}
    if deeper:
        raise ValueError(
            f"--initial_weights={name} has {had} units, but {model.name} only {units}: networks cannot be made "
            "shallower."
        )
    if had != units:
        _check_growth(model)
        arrays = repeat_units(arrays, units)
    set_weights(model, arrays, f"--initial_weights={name}")


def _check_growth(model):
    found = infer_structure(model)
    keeps = {
        "shortcut": found["shortcut"] == "identity",
        "projection": found["projection"] != "C",
        "activation": found["activation"] != "bn_after_addition",
    }
    if not all(keeps.values()):
        words = ", ".join(f"{name}={found[name]}" for name, holds in keeps.items() if not holds)
        raise ValueError(
            f"{model.name} with {words} cannot start from a shallower network: repeating units requires identity "
            "shortcuts."
        )


def repeat_units(arrays: dict[str, np.ndarray], units: dict[str, int]) -> dict[str, np.ndarray]:
    """Computes the weights of a deeper network, initializing each unit from one of the shallower network.

    The first unit of a stage, whose width or stride differs, is used once. The others are repeated in order, as evenly
    as possible; the last layer of the branch of a unit with c copies (its last convolution, or the batch normalization
    after it) is divided by c.

    Args:
        arrays: weights of the shallower network, by ``<layer>/<variable>``.
        units: number of units in each stage of the deeper network, by "stage1", ...

    Returns:
        Weights of the deeper network.

    Raises:
        ValueError: if a stage has only one unit, which cannot be repeated.

    Example:

    >>> one = {f"stage1_unit{u}_conv2/kernel": np.full((3, 3, 1, 1), float(u)) for u in (1, 2)}
    >>> sorted((name, float(kernel.max())) for name, kernel in repeat_units(one, {"stage1": 3}).items())
    [('stage1_unit1_conv2/kernel', 1.0), ('stage1_unit2_conv2/kernel', 1.0), ('stage1_unit3_conv2/kernel', 1.0)]
    """
    had, grown = _units(arrays), {}
    copies = {}
    for stage, count in units.items():
        if had[stage] == 1 < count:
            raise ValueError(f"{stage} has only one unit, which changes the size and cannot be repeated.")
        sources = np.array_split(np.arange(2, count + 1), had[stage] - 1) if had[stage] > 1 else []
        copies.update({(stage, unit): [*map(int, group)] for unit, group in enumerate(sources, 2)} | {(stage, 1): [1]})
    ends = _ends(arrays)
    for name, array in arrays.items():
        match = UNIT.fullmatch(name)
        if match is None:
            grown[name] = array
            continue
        stage, unit, layer, variable = match.groups()
        places = copies[stage, int(unit)]
        if layer == ends and variable in ("kernel", "bias", "gamma", "beta"):
            array = array / len(places)
        grown.update({f"{stage}_unit{place}_{layer}/{variable}": array for place in places})
    return grown


def _ends(arrays):
    """Returns the last layer of every branch: the last convolution, or the batch normalization after it."""
    layers = {match.group(3) for match in map(UNIT.fullmatch, arrays) if match}
    last = max(int(layer[4:]) for layer in layers if re.fullmatch(r"conv\d", layer))
    return f"bn{last}" if f"bn{last}" in layers else f"conv{last}"


def _units(names):
    """Returns the number of units of each stage."""
    counts = {}
    for match in map(UNIT.fullmatch, names):
        if match:
            stage, unit = match.group(1), int(match.group(2))
            counts[stage] = max(unit, counts.get(stage, 0))
    return dict(sorted(counts.items()))
