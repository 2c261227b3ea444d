"""Stacked variables: manual arithmetic of the optimizer, and that the order is kept."""

import keras
import numpy as np
import pytest

from train.optimizer import make_optimizer, stack_optimizer
from train.recipes import RECIPES
from train.stacks import Stacks, group_alike


def named(shape, name):
    return keras.Variable(np.random.default_rng(len(name)).normal(size=shape), name=name, dtype="float32")


def test_arrays_come_back_in_their_places():
    stacks = Stacks([[0, 2], [1]])
    arrays = [np.full(3, 1.0), np.full(5, 2.0), np.full(3, 3.0)]
    stacked = stacks.stack(arrays)
    np.testing.assert_array_equal(stacked[0], [[1, 1, 1], [3, 3, 3]])
    np.testing.assert_array_equal(stacked[1], arrays[1])
    for found, expected in zip(stacks.split(stacked), arrays, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_only_equal_shapes_are_stacked():
    variables = [named((3,), "gamma"), named((3, 1), "kernel"), named((3,), "beta"), named((3,), "kernel")]
    assert group_alike(variables).groups == [[0, 2, 3], [1]]
    assert group_alike(variables, lambda variable: variable.name == "kernel").groups == [[0, 2], [1], [3]]


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="stacks are for JAX: set KERAS_BACKEND=jax")
def test_a_step_of_the_optimizer_in_stacks(dtype):
    """Two steps of Nesterov momentum with L2 on kernels only: v = 0.9 v - rate g, w += 0.9 v - rate g."""
    recipe = RECIPES["fast"].with_values([f"dtype={dtype}", "weight_decay=0.5", "schedule=((0, 0.1),)"])
    variables = [named((2,), "gamma"), named((2,), "kernel"), named((2, 2), "a_kernel"), named((2,), "beta1")]
    variables.append(named((2,), "other_kernel"))
    weights = [keras.ops.convert_to_numpy(v).astype("float64") for v in variables]
    optimizer = make_optimizer(recipe, variables)
    new, stacks, slots = stack_optimizer(optimizer, variables)
    assert stacks.groups == [[0, 3], [1, 4], [2]]
    assert [tuple(v.shape) for v in new.variables] == [
        tuple(array.shape) for array in slots.stack([v.value for v in optimizer.variables])
    ]
    scale = float(optimizer.dynamic_scale) if dtype == "mixed_float16" else 1.0
    held, own = stacks.stack([v.value for v in variables]), slots.stack([v.value for v in optimizer.variables])
    velocities = [np.zeros_like(w) for w in weights]
    for step in range(2):
        gradients = [np.full(w.shape, 0.1 * (i + 1) + step, "float32") for i, w in enumerate(weights)]
        scaled = stacks.stack([keras.ops.convert_to_tensor(g * scale) for g in gradients])
        held, own = new.stateless_apply(own, scaled, held)
        for i, gradient in enumerate(gradients):
            gradient = gradient + (0.5 * weights[i] if "kernel" in variables[i].name else 0)
            velocities[i] = 0.9 * velocities[i] - 0.1 * gradient
            weights[i] = weights[i] + 0.9 * velocities[i] - 0.1 * gradient
    for found, expected in zip(stacks.split(held), weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)
    momenta = [array for array in slots.split(own) if len(array.shape)]
    for found, expected in zip(momenta, velocities, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)
