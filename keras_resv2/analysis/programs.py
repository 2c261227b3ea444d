"""Compiled functions of feature maps and weights, and their gradients, on each backend."""

import contextlib
import functools
from typing import Any

import keras


class Program:
    """A model as a function of its weights and its input, compiled if the backend supports it.

    Args:
        model: `keras.Model` with one input and one output tensor; its own weights are never used.
        variables: all variables of its layers, in the order in which values are passed.

    Example:

    >>> x = keras.Input((2,))
    >>> layer = keras.layers.Dense(1, use_bias=False)
    >>> program = Program(keras.Model(x, layer(x)), layer.variables)
    >>> float(program([keras.ops.ones((2, 1))], keras.ops.ones((1, 2)))[0, 0])
    2.0
    """

    def __init__(self, model: keras.Model, variables: list[keras.Variable]):
        self._model, self._variables = model, variables
        self._compiled = {}

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """Shape without the batch dimension."""
        return tuple(self._model.inputs[0].shape[1:])

    @property
    def input_dtype(self) -> str:
        return self._model.inputs[0].dtype

    @property
    def output_shape(self) -> tuple[Any, ...]:
        """Shape without the batch dimension."""
        return tuple(self._model.outputs[0].shape[1:])

    @property
    def compute_dtypes(self) -> set[str]:
        """Types of the numbers that the layers compute with."""
        return {layer.compute_dtype for layer in self._model.layers}

    def __call__(self, values: list, x: Any, training: bool = False) -> Any:
        """Computes the output; the values are not modified.

        Args:
            values: list of tensors, one for each variable.
            x: tensor.
            training: as in Keras layers.
        """
        return self._get("forward", training)(values, x)

    def vjp(self, values: list, x: Any, cotangent: Any, training: bool = False) -> Any:
        """Computes the gradient of the sum of output times cotangent with respect to x (a vector-Jacobian product).

        Args:
            values, x, training: as in `__call__`.
            cotangent: tensor with the shape of the output.
        """
        return self._get("backward", training)(values, x, cotangent)

    def _get(self, kind, training):
        training = bool(training)
        if training not in self._compiled:
            forward = functools.partial(self._run, training=training)
            self._compiled[training] = _COMPILERS[keras.backend.backend()](forward)
        return self._compiled[training][kind]

    def _run(self, values, x, training):
        with contextlib.ExitStack() as stack:
            if training and keras.backend.backend() == "torch":
                values = [keras.ops.copy(value) for value in values]  # kernels overwrite moving statistics
                stack.enter_context(_same_torch_numbers(self._variables, values))
            stack.enter_context(keras.StatelessScope(state_mapping=list(zip(self._variables, values, strict=True))))
            return self._model(x, training=training)


@contextlib.contextmanager
def _same_torch_numbers(variables, values):
    """Seeds PyTorch's global generator, which Keras' dropout uses, from the state of the layers."""
    import torch

    seeds = [value for variable, value in zip(variables, values, strict=True) if "int" in str(variable.dtype)]
    with torch.random.fork_rng():
        if seeds:
            torch.manual_seed(int(sum(keras.ops.convert_to_numpy(seed).astype("int64").sum() for seed in seeds)))
        yield


def _jax(function):
    import jax

    def backward(values, x, cotangent):
        return jax.vjp(functools.partial(function, values), x)[1](cotangent)[0]

    return {"forward": jax.jit(function), "backward": jax.jit(backward)}


def _tensorflow(function):
    import tensorflow as tf

    def backward(values, x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = function(values, x)
        return tape.gradient(output, x, output_gradients=cotangent, unconnected_gradients="zero")

    # A `partial` is a new object for each program: TensorFlow warns about retracing if all programs share one Python
    # function.
    return {"forward": tf.function(function), "backward": tf.function(functools.partial(backward))}


def _torch(function):
    import torch

    def backward(values, x, cotangent):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            output = function([value.detach() for value in values], x)
        return torch.autograd.grad(output, x, cotangent)[0]

    return {"forward": torch.no_grad()(function), "backward": backward}


_COMPILERS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
