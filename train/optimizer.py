"""The optimizer of all recipes: momentum SGD with L2 weight decay, weight averaging, and loss scaling for float16."""

import keras
from keras import ops

import keras_resv2
from train.stacks import Stacks, group_alike


class SGD(keras_resv2.SGD):
    """`keras_resv2.SGD` with averages of the weights.

    Args:
        decays: function that returns whether a variable is decayed; None for the choice of `decay`.
        first_averaged: iteration, counted from 0, from which the weights are averaged; None for no averaging. Before it
            the averages equal the weights.
        average_decay: the averages are the mean of the weights since then until the weight of the newest falls to
            ``1 - average_decay``, and an exponential moving average from then on; 1 for the mean. Keras' own `use_ema`
            starts at the first step and does not support the mean.
    """

    def __init__(self, *args, decays=None, first_averaged=None, average_decay=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self._decays, self._first_averaged, self._average_decay = decays, first_averaged, average_decay
        self.averages = []

    def build(self, variables):
        built = self.built
        super().build(variables)
        if not built and self._first_averaged is not None:
            self.averages = self.add_optimizer_variables(variables, "average")

    def decays(self, variable):
        """Returns whether a variable is decayed."""
        return bool(self.l2 and self._decays(variable)) if self._decays else super().decays(variable)

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        if self.averages:
            average, newest = self.averages[self._get_variable_index(variable)], ops.convert_to_tensor(variable)
            share = ops.cast(self._share_of_newest(), newest.dtype)
            self.assign(average, (1 - share) * average + share * newest)

    def _share_of_newest(self):
        """Returns the weight of the newest value in an average: 1, 1/2, 1/3, ..., at least ``1 - average_decay``."""
        averaged = ops.maximum(ops.convert_to_tensor(self.iterations) - self._first_averaged, 0)
        return ops.maximum(1 / (ops.cast(averaged, "float32") + 1), 1 - self._average_decay)


def averages(optimizer):
    """Returns the averages of the trainable variables, in order, from a result of `make_optimizer`."""
    return getattr(optimizer, "inner_optimizer", optimizer).averages


def make_optimizer(recipe, variables):
    """Creates the optimizer of a recipe, built for `variables`.

    Args:
        recipe: `train.recipe.Recipe`.
        variables: the trainable variables of the network.

    Returns:
        `SGD`; with the dtype "mixed_float16" wrapped in `keras.optimizers.LossScaleOptimizer`, because small gradients
        underflow in float16: the loss is multiplied by a factor that is halved whenever a gradient overflows (the step
        is skipped) and doubled every 2,000 steps.
    """
    optimizer = SGD(
        recipe.learning_rate(0),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        l2=recipe.weight_decay,
        decay=recipe.decay,
        first_averaged=recipe.first_averaged_step if recipe.average else None,
        average_decay=recipe.average_decay if recipe.average == "ema" else 1.0,
    )
    if recipe.dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def stack_optimizer(optimizer, variables):
    """Creates an equivalent optimizer for stacks of variables.

    Args:
        optimizer: created by `make_optimizer` for `variables`.
        variables: those variables.

    Returns:
        ``(optimizer, stacks, slots)``: the new optimizer; `train.stacks.Stacks` of the variables, grouped by shape and
        weight decay; and those of the optimizer's own variables.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    stacks = group_alike(variables, inner.decays)
    stacked = [keras.Variable(v, name=f"stack{i}") for i, v in enumerate(stacks.stack([v.value for v in variables]))]
    decayed = {id(v): inner.decays(variables[group[0]]) for v, group in zip(stacked, stacks.groups, strict=True)}
    own = {"first_averaged": inner._first_averaged, "average_decay": inner._average_decay}
    new = SGD.from_config({**inner.get_config(), **own, "decays": lambda variable: decayed[id(variable)]})
    if inner is not optimizer:
        scaling = {"initial_scale": optimizer.initial_scale, "dynamic_growth_steps": optimizer.dynamic_growth_steps}
        new = keras.optimizers.LossScaleOptimizer(new, **scaling)
    new.build(stacked)
    return new, stacks, Stacks(_slot_groups(optimizer.variables, variables, stacks.groups))


def _slot_groups(slots, variables, groups):
    """Groups an optimizer's variables in the same way as the trained variables that they belong to."""
    shapes, first, found = [v.shape for v in variables], 0, []
    while first < len(slots):
        one_each = [v.shape for v in slots[first : first + len(shapes)]] == shapes
        found += [[first + i for i in group] for group in groups] if one_each else [[first]]
        first += len(shapes) if one_each else 1
    return found
