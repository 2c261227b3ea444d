"""Seeds in one compiled program (JAX) against the same seeds one after another."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

from train.seeds import unroll_convolutions  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]

TOGETHER_AND_APART = """
import itertools, json
import keras, numpy as np
import keras_resv2
from train.data.device_data import DeviceData
from train.devices import ONE_DEVICE
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.seeds import JaxSeedSteps
from train.steps import JaxSteps

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (40, 16, 16, 3), dtype="uint8"), np.arange(40) % 10
recipe = RECIPES["fast"].with_values(["batch_size=8", "dtype=float32"])

def make(seed):
    keras.utils.set_random_seed(seed)
    model = keras_resv2.ResNet(8, input_shape=(16, 16, 3), classifier_activation=None, shortcut="dropout(rate=0.1)")
    return model, make_optimizer(recipe, model.trainable_variables), DeviceData(images, labels, recipe, seed)

rates, found = [0.01, 0.02], []
for together in (True, False):
    seeds = [make(seed) for seed in (3, 4)]
    for *_, source in seeds:
        source.max_steps_per_dispatch = 2
    batches = [list(itertools.islice(source.batches(0), 2)) for *_, source in seeds]
    if together:
        steps = JaxSeedSteps(*zip(*seeds), compiled_loop=True)
        losses = np.asarray(steps.run(rates, batches)[0]).tolist()
        logits = [np.abs(steps.predict_on_batch(images, seed)).sum() for seed in (0, 1)]
        steps.sync()
    else:
        losses, logits = [], []
        for (model, optimizer, source), of_seed in zip(seeds, batches):
            steps = JaxSteps(model, optimizer, source, ONE_DEVICE, compiled_loop=False)
            losses.append(np.asarray(steps.run(rates, of_seed)[0]).tolist())
            logits.append(np.abs(steps.predict_on_batch(images)).sum())
            steps.sync()
    states = [[np.abs(np.asarray(v, "float64")).sum() for v in model.variables + optimizer.variables]
              for model, optimizer, _ in seeds]
    found.append([losses, np.asarray(logits, "float64").tolist(), np.asarray(states).tolist()])
print(json.dumps(found))
"""


def test_seeds_together_are_the_seeds_apart():
    """Two seeds, two steps in a compiled loop: losses, logits, weights, dropout's seeds, statistics, momenta."""
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER_AND_APART], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    together, apart = json.loads(done.stdout.splitlines()[-1])
    assert not np.allclose(*apart[0], rtol=0.01), "the seeds are alike"
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)


def test_convolutions_are_unrolled_and_all_else_is_batched():
    """Values and gradients of three seeds; the program holds no convolution in groups."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, 6, 6, 4)).astype("float32")
    kernels, weights = rng.normal(size=(3, 3, 3, 4, 5)).astype("float32"), rng.normal(size=(3, 5)).astype("float32")

    def objective(kernel, weight, images):
        y = jax.lax.conv_general_dilated(images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return (jax.nn.relu(y) @ weight).sum()

    gradient = jax.value_and_grad(jax.jit(objective), (0, 1, 2))
    batched = jax.jit(jax.vmap(unroll_convolutions(gradient)))
    for found, *expected in zip(
        jax.tree.leaves(batched(kernels, weights, images)),
        *(jax.tree.leaves(gradient(*one)) for one in zip(kernels, weights, images, strict=True)),
        strict=True,
    ):
        np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-4)
    program = batched.lower(kernels, weights, images).as_text()
    assert program.count("stablehlo.convolution") == 9  # forward, and two gradients, of each seed
    assert program.count("feature_group_count = 1 ") == program.count("batch_group_count = 1 ") == 9
    plain = jax.jit(jax.vmap(gradient)).lower(kernels, weights, images).as_text()
    assert plain.count("stablehlo.convolution") == 3  # what it would be without
