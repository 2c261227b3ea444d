"""The optimizer of all recipes: momentum SGD with L2 weight decay, averages of weights, loss scaling for float16."""

import keras
from keras import ops

from train.stacks import Stacks, group_alike


class SGD(keras.optimizers.SGD):
    """Momentum SGD with L2 weight decay in the gradient, as the papers' code has it.

    Keras' own `weight_decay` shrinks the weight outside the momentum, which with momentum 0.9 is
    about a tenth of the effect.

    Args:
        l2: factor of the weights in the gradient.
        decays: function from a variable to whether it is decayed.
        first_averaged: iteration, counted from 0, after which the weights are averaged; None for no averages.
            Up to there the averages are the weights themselves.
        decay: the averages are the mean of the weights since then, until that gives the newest less than
            ``1 - decay``, which it has from then on; 1 for the mean. Keras' own `use_ema` starts at the
            first step, and knows no mean.
    """

    def __init__(self, *args, l2, decays, first_averaged=None, decay=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self._l2, self._decays = l2, decays
        self._first_averaged, self._decay = first_averaged, decay
        self.averages = []

    def build(self, variables):
        built = self.built
        super().build(variables)
        if not built and self._first_averaged is not None:
            self.averages = self.add_optimizer_variables(variables, "average")

    def decays(self, variable):
        """Whether a variable is decayed."""
        return bool(self._l2 and self._decays(variable))

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow hands over its own variable, which has no path.
        index = self._get_variable_index(variable)
        if self.decays(self._trainable_variables[index]):
            gradient = gradient + self._l2 * ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)
        if self.averages:
            average, newest = self.averages[index], ops.convert_to_tensor(variable)
            share = ops.cast(self._share_of_newest(), newest.dtype)
            self.assign(average, (1 - share) * average + share * newest)

    def _share_of_newest(self):
        """What of an average is the newest weight: 1, 1/2, 1/3, ..., at least ``1 - decay``."""
        averaged = ops.maximum(ops.convert_to_tensor(self.iterations) - self._first_averaged, 0)
        return ops.maximum(1 / (ops.cast(averaged, "float32") + 1), 1 - self._decay)


def averages(optimizer):
    """The averages of the trainable variables, in their order, of what `make_optimizer` returned."""
    return getattr(optimizer, "inner_optimizer", optimizer).averages


def make_optimizer(recipe, variables):
    """The optimizer of a recipe, built for `variables`.

    Args:
        recipe: `train.recipe.Recipe`.
        variables: the trainable variables of the network.

    Returns:
        `SGD`; with the recipe's dtype "mixed_float16" inside `keras.optimizers.LossScaleOptimizer`,
        because small gradients vanish in float16: the loss is multiplied by a factor that is halved
        whenever a gradient overflows (that step is left out) and doubled every 2,000 steps.
    """
    optimizer = SGD(
        recipe.learning_rate(0),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        l2=recipe.weight_decay,
        decays=lambda variable: recipe.decay == "all" or variable.path.endswith("kernel"),
        first_averaged=recipe.first_averaged_step if recipe.average else None,
        decay=recipe.average_decay if recipe.average == "ema" else 1.0,
    )
    if recipe.dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def stack_optimizer(optimizer, variables):
    """An optimizer of the same rule for stacks of the variables that another was built for.

    Args:
        optimizer: made by `make_optimizer` for `variables`.
        variables: those variables.

    Returns:
        ``(optimizer, stacks, slots)``: the new optimizer; `train.stacks.Stacks` of the variables, in which those
        lie together that have the same shape and weight decay; and those of the optimizer's own variables.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    stacks = group_alike(variables, inner.decays)
    stacked = [keras.Variable(v, name=f"stack{i}") for i, v in enumerate(stacks.stack([v.value for v in variables]))]
    decayed = {id(v): inner.decays(variables[group[0]]) for v, group in zip(stacked, stacks.groups, strict=True)}
    own = {"l2": inner._l2, "first_averaged": inner._first_averaged, "decay": inner._decay}
    new = SGD.from_config({**inner.get_config(), **own, "decays": lambda variable: decayed[id(variable)]})
    if inner is not optimizer:
        scaling = {"initial_scale": optimizer.initial_scale, "dynamic_growth_steps": optimizer.dynamic_growth_steps}
        new = keras.optimizers.LossScaleOptimizer(new, **scaling)
    new.build(stacked)
    return new, stacks, Stacks(_slot_groups(optimizer.variables, variables, stacks.groups))


def _slot_groups(slots, variables, groups):
    """Groups of an optimizer's variables: those that it has for each trained one lie together as these do."""
    shapes, first, found = [v.shape for v in variables], 0, []
    while first < len(slots):
        one_each = [v.shape for v in slots[first : first + len(shapes)]] == shapes
        found += [[first + i for i in group] for group in groups] if one_each else [[first]]
        first += len(shapes) if one_each else 1
    return found
