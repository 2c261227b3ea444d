"""Training with a random choice of units in each batch: Veit et al. 2016 (arXiv 1605.06431), section 5.

The other units hand on their shortcut alone. Nothing is scaled, and tests run the whole network.
"""

import re

import keras

from keras_resv2.graphs import copy_model

ADDITION = re.compile(r"stage\d+_unit\d+_add")


def with_units_per_batch(model, count):
    """A copy of a network that trains a random choice of its units in each batch.

    Args:
        model: a network of this package, of units with shortcuts, not rolled.
        count: units per batch.

    Returns:
        `keras.Model` with the same layer names and a copy of the weights; a new layer "units_per_batch" draws.

    Raises:
        ValueError: the network has fewer units, or none that could be left out.

    Example:

    >>> import keras_resv2
    >>> with_units_per_batch(keras_resv2.ResNet(20), 4).get_layer("units_per_batch").count
    4
    """
    names = [layer.name for layer in model.layers if ADDITION.fullmatch(layer.name)]
    if not names:
        raise ValueError(
            f"--units_per_batch: {model.name} has no units with shortcuts, or they are in loops (--rolled)."
        )
    if not 1 <= count <= len(names):
        raise ValueError(f"--units_per_batch={count} must be from 1 to {len(names)}, the units of {model.name}.")
    draw = DrawUnits(len(names), count, name="units_per_batch")
    drawn = []

    def call(layer, *arguments, **options):
        if layer.name not in names:
            return layer(*arguments, **options)
        shortcut, branch = arguments[0]
        if not drawn:
            drawn.append(draw(shortcut))
        return layer([shortcut, TakeUnit(names.index(layer.name), name=f"{layer.name}_if_drawn")([branch, drawn[0]])])

    return copy_model(model, call=call)


@keras.saving.register_keras_serializable(package="keras_resv2_train")
class DrawUnits(keras.layers.Layer):
    """From any tensor to ``(units,)``: in training 1 for `count` random units and 0 for the others, else all 1."""

    def __init__(self, units, count, **arguments):
        super().__init__(**arguments)
        self.units, self.count = units, count
        self.seeds = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training:
            return keras.ops.ones((self.units,), self.compute_dtype)
        numbers = keras.random.uniform((self.units,), dtype="float32", seed=self.seeds)
        ranks = keras.ops.argsort(keras.ops.argsort(numbers))
        return keras.ops.cast(ranks < self.count, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (self.units,)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "count": self.count}


@keras.saving.register_keras_serializable(package="keras_resv2_train")
class TakeUnit(keras.layers.Layer):
    """A branch times its own value of what `DrawUnits` drew."""

    def __init__(self, index, **arguments):
        super().__init__(**arguments)
        self.index = index

    def call(self, inputs):
        branch, drawn = inputs
        return branch * keras.ops.cast(drawn[self.index], branch.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "index": self.index}
