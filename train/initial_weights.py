"""Starting a run from trained weights: of the same network, or of a shallower one whose units are repeated.

A residual network of n units a stage is one way to integrate ``dx/dt = F(x)`` in n steps. With each unit
repeated and its branch divided by the number of copies, twice as many steps of half the size follow the same
path to first order, so the deeper network starts near the function of the shallower one (Chang et al. 2018,
"Multi-level Residual Networks from Dynamical Systems View", arXiv 1710.10348, section 3).
"""

import pathlib
import re

import keras
import numpy as np

from keras_resv2.models.weights import match_weights
from keras_resv2.pretrained import find_card, weight_path
from keras_resv2.storage.weight_file import read_weights
from train.run_files import WEIGHTS

UNIT = re.compile(r"(stage\d+)_unit(\d+)_(.+)/(\w+)")


def find_weights(source: str) -> tuple[dict[str, np.ndarray], str]:
    """Weights by name, and a name that says which ones they are.

    Args:
        source: a pretrained name, a run directory of `train.train`, a weight folder, or a weight file.

    Returns:
        ``(arrays, name)``: arrays by ``<layer>/<variable>``; the name has the version of pretrained weights.

    Raises:
        FileNotFoundError: a run directory has no weights yet.
        ValueError: there are no such weights, or the file is damaged.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return read_weights(path), source
    if (path / "run.json").exists():
        if not (path / WEIGHTS).exists():
            raise FileNotFoundError(f"--initial_weights={source} is a run that is not finished: it has no {WEIGHTS}.")
        return read_weights(path / WEIGHTS), source
    card = find_card(source)
    return read_weights(weight_path(card)), card.full_name


def set_initial_weights(model: keras.Model, arrays: dict[str, np.ndarray], name: str) -> None:
    """Sets the weights of a network from those of the same network or of a shallower one.

    Args:
        model: network of this package, not rolled.
        arrays: by ``<layer>/<variable>``, as `keras_resv2.storage.weight_file.read_weights` gives them.
        name: of the weights, for messages.

    Raises:
        ValueError: they do not fit: another kind of unit, width or number of classes, or more units.
    """
    wanted = [f"{layer.name}/{variable.name}" for layer in model.layers for variable in layer.weights]
    units, had = _units(wanted), _units(arrays)
    deeper = {stage: count for stage, count in had.items() if count > units.get(stage, 0)}
    if deeper:
        raise ValueError(f"--initial_weights={name} has {had} units, {model.name} {units}: only deeper networks grow.")
    if had != units:
        arrays = repeat_units(arrays, units)
    for weight, array in match_weights(model, arrays, f"--initial_weights={name}"):
        weight.assign(array)


def repeat_units(arrays: dict[str, np.ndarray], units: dict[str, int]) -> dict[str, np.ndarray]:
    """The weights of a deeper network, each of whose units starts from one of the shallower network's.

    The first unit of a stage, whose width or stride differs, is taken once. The others are repeated in
    their order, as evenly as they can be; what ends the branch of a unit with c copies (its last convolution,
    or the batch normalisation after it) is divided by c.

    Args:
        arrays: of the shallower network, by ``<layer>/<variable>``.
        units: number of units of each stage of the deeper one, by "stage1", ...

    Returns:
        Arrays of the deeper network.

    Raises:
        ValueError: a stage has one unit, so there is nothing to repeat.

    Example:

    >>> one = {f"stage1_unit{u}_conv2/kernel": np.full((3, 3, 1, 1), float(u)) for u in (1, 2)}
    >>> sorted((name, float(kernel.max())) for name, kernel in repeat_units(one, {"stage1": 3}).items())
    [('stage1_unit1_conv2/kernel', 1.0), ('stage1_unit2_conv2/kernel', 1.0), ('stage1_unit3_conv2/kernel', 1.0)]
    """
    had, grown = _units(arrays), {}
    copies = {}
    for stage, count in units.items():
        if had[stage] == 1 < count:
            raise ValueError(f"{stage} has one unit, which changes the size: there is none to repeat.")
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
    """The layer that ends every branch: its last batch normalisation where that follows its last convolution."""
    layers = {match.group(3) for match in map(UNIT.fullmatch, arrays) if match}
    last = max(int(layer[4:]) for layer in layers if re.fullmatch(r"conv\d", layer))
    return f"bn{last}" if f"bn{last}" in layers else f"conv{last}"


def _units(names):
    """How many units each stage has."""
    counts = {}
    for match in map(UNIT.fullmatch, names):
        if match:
            stage, unit = match.group(1), int(match.group(2))
            counts[stage] = max(unit, counts.get(stage, 0))
    return dict(sorted(counts.items()))
