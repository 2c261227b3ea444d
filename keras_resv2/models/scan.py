"""Runs identical units as one loop over stacked weights, so that only one unit is compiled, however deep the network.

A stage of n units after its first is ``x -> unit(x, w_1) -> ... -> unit(x, w_n)``. `RolledUnits` holds each weight of
the n units as one array ``(n, ...)`` and runs the loop inside the compiled program, by `jax.lax.scan` or
`tf.while_loop`; on PyTorch, which does not compile, it is a Python loop.
"""

import dataclasses
import re

import keras
import numpy as np

from keras_resv2.models.blocks import residual_unit
from keras_resv2.models.graph import deep_graph
from keras_resv2.models.layers import fast_initializer
from keras_resv2.registration import saying_what_to_import


@keras.saving.register_keras_serializable(package="keras_resv2")
class RolledUnits(keras.layers.Layer):
    """A sequence of units of the same shape.

    Args:
        unit: functional `keras.Model` of one unit, as built by `keras_resv2.models.blocks.residual_unit`. Its layers
            are named ``stageS_unitU_...`` after the first unit; the numbers of the others follow.
        count: number of units.
        rematerialize: whether the backward pass recomputes the activations inside a unit: memory for one unit and the
            states between units, at the cost of a second forward pass.
        values: dictionary from ``<layer>/<variable>`` to an array, the initial values of the units' weights. Weights
            that are not in it are initialized like those of the unit.

    Inputs and outputs have the same shape as those of the unit: ``(batch, height, width, channels)``.

    Example:

    >>> import keras_resv2
    >>> model = keras_resv2.ResNet56(rolled=True)
    >>> model.get_layer("stage2_unit2_to_9").count
    8
    """

    def __init__(self, unit, count, rematerialize=False, values=None, **arguments):
        super().__init__(**arguments)
        if rematerialize and not hasattr(keras, "remat"):
            raise ValueError(
                f"rematerialize=True needs keras.remat, which Keras {keras.__version__} does not have: upgrade Keras."
            )
        self.count, self.rematerialize = count, rematerialize
        # Wrapped in a function, so that Keras does not track the unit's own weights as this layer's.
        self._unit, self._values = (lambda: unit), (lambda: values or {})
        if not self.trainable:  # as in files saved before the units followed
            unit.trainable = False

    @property
    def trainable(self):
        """Whether the units train. Setting it sets all layers of the unit, as it sets those inside other layers."""
        return super().trainable

    @trainable.setter
    def trainable(self, value):
        keras.layers.Layer.trainable.__set__(self, value)
        self.unit.trainable = value
        if self.built:
            self.match_unit()

    @property
    def unit(self):
        """The unit, whose own weights are not used."""
        return self._unit()

    def get_build_config(self):
        return saying_what_to_import(super().get_build_config())

    def build(self, input_shape):
        layers = {id(v): layer for layer in self.unit.layers for v in layer.weights}
        stacks = []
        for variable in self.unit.variables:
            layer = layers.get(id(variable))
            # By kind of variable, not by `trainable`: frozen weights may train later, and the order of saved weights
            # must not change.
            moves = not layer or variable.name.startswith("moving_")
            stack = self.add_weight(
                name=f"{_short(self.layer_names(layer.name)[0])}_{variable.name}" if layer else variable.name,
                shape=(self.count, *variable.shape),
                dtype=variable.dtype,
                initializer=self._start(layer, variable) if layer else self._seeds,
                trainable=not moves,
                autocast=False,  # the layers of the unit cast them
            )
            stacks.append((stack, layer.name if layer else None, variable.name, moves))
        self._stacks = stacks
        self._values = dict
        self.match_unit()

    def _start(self, layer, variable):
        """Returns the initializer of a stack: the units' given values, or separate draws of the unit's initializer."""
        initializer = getattr(layer, f"{variable.name}_initializer", None)
        names, values = self.layer_names(layer.name), self._values()
        index = [id(weight) for weight in layer.weights].index(id(variable))

        def draw(shape):
            if initializer is not None:
                return fast_initializer(initializer.clone())(shape, dtype="float32")
            fresh = type(layer).from_config(layer.get_config())  # a layer that names its initializers otherwise
            fresh(layer.input)
            return fresh.weights[index].value

        def start(shape, dtype):
            parts = []
            for name in names:
                value = values.get(f"{name}/{variable.name}")
                if value is None or value.shape != tuple(shape[1:]):
                    value = draw(shape[1:])
                parts.append(keras.ops.convert_to_numpy(value))
            return keras.ops.convert_to_tensor(np.stack(parts), dtype)

        return start

    def _seeds(self, shape, dtype):
        """Creates the state of a random number generator for each unit (dropout)."""
        states = [keras.ops.convert_to_numpy(keras.random.SeedGenerator().state) for _ in range(self.count)]
        return keras.ops.convert_to_tensor(np.stack(states), dtype)

    def layer_names(self, layer):
        """Returns a layer's name in each unit."""
        match = re.fullmatch(r"(stage\d+_unit)(\d+)(_.*)", layer)
        if match is None:
            raise ValueError(
                f"layer {layer!r} of a custom shortcut has no name by which the units of a rolled network are told "
                "apart: the names of its layers must start with `name`, the name of the unit."
            )
        stage, first, rest = match.groups()
        return [f"{stage}{unit}{rest}" for unit in range(int(first), int(first) + self.count)]

    def match_unit(self):
        """Makes the weights trainable that are trainable in the unit, which may have frozen batch normalization."""
        for (stack, *_), variable in zip(self._stacks, self.unit.variables, strict=True):
            stack.trainable = variable.trainable and self.trainable

    def unit_weights(self):
        """Maps the names of weights in the unrolled network to the stacks.

        Returns:
            Dictionary from ``<layer>/<variable>`` to ``(stack, index of the unit)``.
        """
        return {
            f"{name}/{variable}": (stack, index)
            for stack, layer, variable, _ in self._stacks
            if layer
            for index, name in enumerate(self.layer_names(layer))
        }

    def call(self, x, training=None):
        training, variables = bool(training), self.unit.variables
        moves = [training and own for *_, own in self._stacks]  # which weights the forward pass changes
        moving = [variable for variable, own in zip(variables, moves, strict=True) if own]

        def unit(x, *weights):
            with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))) as scope:
                y = self.unit(x, training=training)
            return y, [scope.get_current_value(variable) for variable in moving]

        stacks = [stack for stack, *_ in self._stacks]
        # PyTorch assigns in place: recomputation in the backward pass must see the values of the forward pass.
        values = [keras.ops.copy(s.value) if own else s.value for s, own in zip(stacks, moves, strict=True)]
        scan = {"jax": _jax_scan, "tensorflow": _tensorflow_scan}.get(keras.backend.backend(), _python_scan)
        y, moved = scan(keras.remat(unit) if self.rematerialize else unit, x, values, moving)
        for stack, value in zip([stack for stack, own in zip(stacks, moves, strict=True) if own], moved, strict=True):
            stack.assign(value)
        return y

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {
            "unit": keras.saving.serialize_keras_object(self.unit),
            "count": self.count,
            "rematerialize": self.rematerialize,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        with deep_graph():
            return cls(**{**config, "unit": keras.saving.deserialize_keras_object(config["unit"])})


def is_rolled(model: keras.Model) -> bool:
    """Returns whether units of a network run as a loop, so that its layers are those of one unit for several."""
    return any(isinstance(layer, RolledUnits) for layer in model.layers)


def rolled_units(x, width, count, spec, layers, stage, first, rematerialize, dilation=1):
    """Builds `count` units after the first of a stage as one layer.

    Args:
        x, width, spec, layers: see `keras_resv2.models.blocks.residual_unit`; `x` has the shape of the
            units' output.
        count: number of units.
        stage: name of the stage, such as "stage2".
        first: number of the first of these units.
        rematerialize: see `RolledUnits`.
        dilation: dilation of the 3x3 convolutions.

    Returns:
        Keras tensor of the shape of `x`.
    """
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    own = dataclasses.replace(layers, values={}, template=True)
    unit = keras.Model(
        inputs, residual_unit(inputs, width, 1, spec, own, f"{stage}_unit{first}", dilation=(dilation, dilation))
    )
    name = f"{stage}_unit{first}_to_{first + count - 1}"
    return RolledUnits(unit, count, rematerialize, layers.values, dtype=layers.dtype, name=name)(x)


def _short(layer):
    """Returns a layer's name without its stage and unit."""
    return layer.split("_", 2)[2]


# Each runs `unit(x, *weights)` over the slices of the stacks, feeding it its own first output, and returns the last
# one, and the other outputs of the units (values like those of `moving`) stacked.


def _jax_scan(unit, x, stacks, moving):
    import jax

    return jax.lax.scan(lambda x, weights: unit(x, *weights), x, stacks)


def _python_scan(unit, x, stacks, moving):
    given = []
    for weights in zip(*stacks, strict=True):
        x, more = unit(x, *weights)
        given.append(more)
    return x, [keras.ops.stack(parts) for parts in zip(*given, strict=True)]


def _tensorflow_scan(unit, x, stacks, moving):
    import tensorflow as tf

    count = stacks[0].shape[0]
    # TensorArrays, because the gradient of indexing into a stack is as large as the stack, for every unit.
    arrays = [tf.TensorArray(stack.dtype, count, element_shape=stack.shape[1:]) for stack in stacks]
    arrays = [array.unstack(stack) for array, stack in zip(arrays, stacks, strict=True)]
    given = [tf.TensorArray(variable.dtype, count, element_shape=variable.shape) for variable in moving]

    def step(index, x, given):
        y, more = unit(x, *(array.read(index) for array in arrays))
        given = [array.write(index, value) for array, value in zip(given, more, strict=True)]
        return index + 1, tf.ensure_shape(y, x.shape), given

    _, y, given = tf.while_loop(lambda index, *_: index < count, step, (0, x, given), maximum_iterations=count)
    return y, [array.stack() for array in given]
