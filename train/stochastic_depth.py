"""Training with randomly skipped units, which cost nothing.

A recipe can select units in two ways:

- `units_per_batch` (Veit et al. 2016, arXiv 1605.06431, section 5): a fixed number of random units in each
  batch, or a number that changes during the run, without scaling. The whole network has other activations than those of
  a part of its units, so its batch normalization statistics are measured for it before it is evaluated and saved
  (`train.averaging`), unless the last batches trained all units.
- `survival` (stochastic depth: Huang et al. 2016, arXiv 1603.09382, eq. 4): each unit independently, with a
  probability that decreases linearly from 1 at the input to `survival` at the last unit. The branch of a used unit is
  divided by its probability, so that the whole network can be tested unchanged (the paper multiplies at test time
  instead).

The units of a step depend only on (seed, step), so a resumed run skips the same ones on any backend. A skipped unit
passes on its shortcut: its branch is computed neither in the forward nor in the backward pass, and its batch
normalization statistics are not updated.
"""

import re

import keras
import numpy as np
from keras import ops

from keras_resv2.models.graph import calls, deep_graph
from keras_resv2.models.scan import is_rolled

ADDITION = re.compile(r"stage\d+_unit\d+_add")


def unit_names(model: keras.Model) -> list[str]:
    """Returns the units of a network that can be skipped, in order: "stage1_unit1", ..."""
    return [layer.name.removesuffix("_add") for layer in model.layers if ADDITION.fullmatch(layer.name)]


class UnitSampler:
    """Draws the units that a training step uses.

    Args:
        recipe: `train.recipe.Recipe` with `units_per_batch` or `survival`, and its steps counted.
        units: number of units of the network.
        seed: random seed of the run.

    Raises:
        ValueError: if `units_per_batch` exceeds the number of units.

    Example:

    >>> from train.recipes import RECIPES
    >>> sampler = UnitSampler(RECIPES["fast"].with_values(["units_per_batch=2"]), units=9, seed=0)
    >>> int(sampler.draw(step=5).sum())
    2
    """

    def __init__(self, recipe, units: int, seed: int):
        self._recipe, self._units, self._seed = recipe, units, seed
        recipe.check_units(units)
        if recipe.survival is not None:
            self._probabilities = 1 - np.arange(1, units + 1) / units * (1 - recipe.survival)

    def draw(self, step: int) -> np.ndarray:
        """Draws the factor of each unit's branch at a step: float32 ``(units,)``, 0 for skipped units."""
        rng = np.random.default_rng((self._seed, 3, step))
        if self._recipe.survival is not None:
            used = rng.random(self._units) < self._probabilities
            return np.where(used, 1 / self._probabilities, 0).astype("float32")
        return (rng.permutation(self._units) < self._recipe.unit_count(step)).astype("float32")


@keras.saving.register_keras_serializable(package="keras_resv2_train")
class SwitchedNetwork(keras.Model):
    """A network for training in which each unit can be switched off.

    It has the inputs, outputs and weights of the network, plus a weight `switches`, float32 ``(units,)``, with the
    factor of each unit's branch: a branch with the factor 0 is computed neither in the forward nor in the backward
    pass. Switches only apply in training.

    Args:
        network: functional `keras.Model` of this package, with shortcuts, not rolled.
        scaled: whether switches have values other than 0 and 1.

    Raises:
        ValueError: if the network has no units that can be skipped, or is rolled.

    Example:

    >>> import keras_resv2
    >>> tuple(SwitchedNetwork(keras_resv2.ResNet(20)).switches.shape)
    (9,)
    """

    def __init__(self, network: keras.Model, scaled: bool = False, **arguments):
        super().__init__(name=network.name, dtype="float32", **arguments)
        self.unit_names = unit_names(network)
        if is_rolled(network):
            raise ValueError(f"units of {network.name} cannot be skipped, because they are in loops: omit --rolled.")
        if not self.unit_names:
            raise ValueError(f"{network.name} has no units with shortcuts that could be skipped.")
        self.network, self.scaled = network, scaled
        self.switches = self.add_weight(
            name="unit_switches", shape=(len(self.unit_names),), initializer="ones", trainable=False, autocast=False
        )
        self._plan = _plan(network)
        self.built = True

    def call(self, images, training=None):
        if not training:
            return self.network(images)
        (entry,), (exit_,) = self.network.inputs, self.network.outputs
        tensors = {id(entry): ops.cast(images, entry.dtype)}
        for node, unit, branch in self._plan:
            if branch is None:
                _run(node, tensors)
            else:
                output = self._unit(node, branch, self.switches[unit], tensors)
                tensors[id(node.outputs[0])] = output
        return tensors[id(exit_)]

    def _unit(self, addition, branch, switch, tensors):
        """Returns the sum of shortcut and branch, or only the shortcut."""
        shortcut, end = addition.input_tensors
        variables = [v for node in branch if isinstance(node.operation, keras.Layer) for v in node.operation.variables]
        values = [variable.value for variable in variables]
        moving = [variable for variable in variables if not variable.trainable]

        def use():
            inside = dict(tensors)
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
                for node in branch:
                    _run(node, inside)
                if self.scaled:
                    inside[id(end)] = inside[id(end)] * ops.cast(switch, inside[id(end)].dtype)
                _run(addition, inside)
            return [inside[id(addition.outputs[0])], *(scope.get_current_value(variable) for variable in moving)]

        def leave_out():
            return [tensors[id(shortcut)], *(variable.value for variable in moving)]

        output, *moved = ops.cond(switch > 0, use, leave_out)
        for variable, value in zip(moving, moved, strict=True):
            variable.assign(value)
        return output

    def get_config(self):
        return {"network": keras.saving.serialize_keras_object(self.network), "scaled": self.scaled}

    @classmethod
    def from_config(cls, config):
        with deep_graph():
            return cls(keras.saving.deserialize_keras_object(config["network"]), config["scaled"])


def _plan(network):
    """Lists the calls of a network outside its branches, in order: ``(node, index of the unit, nodes of its branch)``.

    For all calls but the additions of units, unit and branch are None.
    """
    nodes = [node for node in calls(network) if not node.is_input]
    makers = {id(tensor): node for node in nodes for tensor in node.outputs}
    additions = {f"{name}_add": index for index, name in enumerate(unit_names(network))}
    before, branches = {}, {}  # everything that a tensor depends on; nodes of branches by unit
    for node in nodes:
        inputs = [makers[id(x)] for x in node.input_tensors if id(x) in makers]
        before[id(node)] = set().union({id(node)}, *(before[id(x)] for x in inputs))
        if node.operation.name in additions:
            shortcut, branch = (before.get(id(makers.get(id(x)))) or set() for x in node.input_tensors)
            branches[node.operation.name] = branch - shortcut
    inside = set().union(*branches.values())
    return [
        (node, additions.get(node.operation.name), [n for n in nodes if id(n) in branches[node.operation.name]])
        if node.operation.name in additions
        else (node, None, None)
        for node in nodes
        if id(node) not in inside
    ]


def _run(node, tensors):
    """Computes the outputs of a call in training mode from the values in `tensors`, and stores them there."""
    arguments, options = node.arguments.fill_in(tensors)
    if getattr(node.operation, "_call_has_training_arg", False):  # on JAX there is no call context
        options = {**options, "training": True}
    outputs = keras.tree.flatten(node.operation(*arguments, **options))
    tensors.update({id(tensor): value for tensor, value in zip(node.outputs, outputs, strict=True)})
