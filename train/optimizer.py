"""The optimizer of all recipes: momentum SGD with L2 weight decay, and loss scaling for float16."""

import keras


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

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow hands over its own variable, which has no path.
        if self._l2 and self._decays(self._trainable_variables[self._get_variable_index(variable)]):
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
