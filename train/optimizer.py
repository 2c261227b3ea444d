"""The optimizer of all recipes: momentum SGD with L2 weight decay, and loss scaling for float16."""

import keras

from train.stacks import Stacks, group_alike


class SGD(keras.optimizers.SGD):
    """Momentum SGD with L2 weight decay in the gradient, as the papers' code has it.

    Keras' own `weight_decay` shrinks the weight outside the momentum, which with momentum 0.9 is
    about a tenth of the effect.

    Args:
        l2: factor of the weights in the gradient.
        decays: function from a variable to whether it is decayed.
    """

    def __init__(self, *args, l2, decays, **kwargs):
        super().__init__(*args, **kwargs)
        self._l2, self._decays = l2, decays

    def decays(self, variable):
        """Whether a variable is decayed."""
        return bool(self._l2 and self._decays(variable))

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow hands over its own variable, which has no path.
        if self.decays(self._trainable_variables[self._get_variable_index(variable)]):
            gradient = gradient + self._l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)


def make_optimizer(recipe, variables):
    """The optimizer of a recipe, built for `variables`.

    Args:
        recipe: `train.recipes.Recipe`.
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
    new = SGD.from_config({**inner.get_config(), "l2": inner._l2, "decays": lambda variable: decayed[id(variable)]})
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
