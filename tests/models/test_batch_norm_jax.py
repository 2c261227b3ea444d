"""Batch normalization on JAX compared with textbook formulas in float64 and with Keras' layer."""

import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.paths import ROOT

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402

from keras_resv2.models.batch_norm_jax import _sums_together, batch_norm  # noqa: E402

EPSILON = 1e-5


def textbook(x, gamma, beta, dy):
    """Outputs, mean, variance and the gradients of ``sum(y * dy)``, of channels_last maps, in float64."""
    x, gamma, beta, dy = (np.asarray(array, "float64") for array in (x, gamma, beta, dy))
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    deviation = np.sqrt(variance + EPSILON)
    normalized = (x - mean) / deviation
    inner = dy - dy.mean(axes) - normalized * (dy * normalized).mean(axes)
    gradients = gamma / deviation * inner, (dy * normalized).sum(axes), dy.sum(axes)
    return normalized * gamma + beta, mean, variance, *gradients


def ours(x, gamma, beta, dy, axis=3):
    def weighted(x, gamma, beta):
        y, mean, variance = batch_norm(x, gamma, beta, axis, EPSILON)
        return jnp.sum(y.astype("float32") * dy), (y, mean, variance)

    gradients, outputs = jax.jit(jax.grad(weighted, (0, 1, 2), has_aux=True))(x, gamma, beta)
    return *outputs, *gradients


def arguments(mean=0.3, deviation=2.0, dtype="float32", shape=(16, 5, 7, 6)):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(mean, deviation, shape), dtype)
    return x, np.linspace(0.5, 1.5, 6, dtype="float32"), np.linspace(-1, 1, 6, dtype="float32"), rng.normal(size=shape)


def assert_close(found, expected, within):
    """Compares arrays relative to their largest value."""
    for name, one, other in zip(("y", "mean", "variance", "dx", "dgamma", "dbeta"), found, expected, strict=True):
        one = np.asarray(one, "float64")
        np.testing.assert_allclose(one, other, atol=within * max(1e-3, np.abs(other).max()), rtol=0, err_msg=name)


@pytest.mark.parametrize(("dtype", "within"), [("float32", 2e-6), ("bfloat16", 8e-3), ("float16", 1e-3)])
def test_outputs_statistics_and_gradients(dtype, within):
    """In half precision outputs and gradients of the input are rounded to it; statistics are not."""
    given = arguments(dtype=dtype)
    found, expected = ours(*given), textbook(*given)
    assert_close(found, expected, within)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-5)
    assert found[0].dtype == found[3].dtype == dtype and found[1].dtype == found[4].dtype == "float32"


@pytest.mark.parametrize(("mean", "deviation"), [(1000.0, 0.1), (-1e4, 1.0), (0.0, 1e-3)])
def test_a_variance_that_is_small_beside_the_mean(mean, deviation):
    given = arguments(mean, deviation)
    found, expected = ours(*given), textbook(*given)
    assert expected[2].max() < 1e-3 * max(1, abs(mean))
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)


def test_a_first_value_far_from_all_others():
    """The worst case of the shift: the error is bounded by the number of values, 560, times that of a sum."""
    x, *rest = arguments(10.0, 0.1)
    x = x.at[0, 0, 0].set(1000.0)
    np.testing.assert_allclose(ours(x, *rest)[2], textbook(x, *rest)[2], rtol=5e-3)


def test_a_constant_channel_has_no_variance():
    x, *rest = arguments()
    found = ours(x.at[..., 2].set(1234.5678), *rest)
    assert float(found[2][2]) == 0 and np.all(np.asarray(found[0][..., 2]) == rest[1][2])


def test_channels_on_another_axis():
    x, gamma, beta, dy = arguments()
    found = ours(x.transpose(0, 3, 1, 2), gamma, beta, dy.transpose(0, 3, 1, 2), axis=1)
    expected = list(textbook(x, gamma, beta, dy))
    expected[0], expected[3] = expected[0].transpose(0, 3, 1, 2), expected[3].transpose(0, 3, 1, 2)
    assert_close(found, expected, 2e-6)


def test_inside_a_loop_that_computes_again_on_the_way_back():
    """Three units in `jax.lax.scan` with `jax.checkpoint`, as rolled networks have them, against three in a row."""
    x, gamma, beta, dy = arguments()
    gammas = jnp.stack([gamma, 2 * gamma, gamma - 0.2])

    def unit(x, gamma):
        y, mean, variance = batch_norm(jnp.tanh(x), gamma, beta, 3, EPSILON)
        return x + y, (mean, variance)

    def rolled(x, gammas):
        y, statistics = jax.lax.scan(jax.checkpoint(unit), x, gammas)
        return jnp.sum(y * dy), statistics

    def unrolled(x, gammas):
        for gamma in gammas:
            activated = jnp.tanh(x)
            mean, variance = activated.mean((0, 1, 2)), activated.var((0, 1, 2))
            x = x + (activated - mean) / jnp.sqrt(variance + EPSILON) * gamma + beta
        return jnp.sum(x * dy)

    found, (means, _) = jax.jit(jax.grad(rolled, (0, 1), has_aux=True))(x, gammas)
    for one, other in zip(found, jax.grad(unrolled, (0, 1))(x, gammas), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())
    np.testing.assert_allclose(means[0], np.tanh(x).mean((0, 1, 2)), atol=1e-6)


ON_DEVICES = """
import jax, sys
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
import test_batch_norm_jax as t
x, gamma, beta, dy = t.arguments()
mesh = jax.sharding.Mesh(jax.devices(), ("batch",))
halves, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("batch",), ()))
given = (jax.device_put(x, halves), jax.device_put(gamma, whole), jax.device_put(beta, whole), dy)
found = t.ours(*given)
assert len(found[0].sharding.device_set) == 2
t.assert_close(found, t.textbook(x, gamma, beta, dy), 2e-6)
"""


def test_statistics_of_a_batch_on_two_devices_are_those_of_the_whole_batch():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ON_DEVICES], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]


FOR_CUDA = """
import jax, numpy as np
from keras_resv2.models.batch_norm_jax import _sums
one, other = np.random.default_rng(0).normal(size=(2, 4, 3, 3, 5)).astype("float32")
exported = jax.export.export(jax.jit(lambda a, b: _sums(a, b, 3)), platforms=["cuda"])(one, other)
text = exported.mlir_module()
assert text.count("stablehlo.reduce") == 1, text
"""


def test_both_sums_are_one_reduction_on_an_accelerator():
    """The program compiled for a GPU contains one reduction of two arrays, not two reductions."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FOR_CUDA], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]


def test_one_reduction_of_two_arrays_is_two_sums():
    """Runs the code for accelerators on a CPU."""
    one, other = np.random.default_rng(0).normal(size=(2, 4, 3, 3, 5)).astype("float32")
    found = _sums_together(one, other, [0, 1, 2])
    np.testing.assert_allclose(found, [one.sum((0, 1, 2)), other.sum((0, 1, 2))], rtol=1e-5, atol=1e-5)
