"""Seeds in one compiled program (JAX) compared with the same seeds one after another."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from helpers.paths import ROOT

jax = pytest.importorskip("jax", reason="JAX is not installed")

from train.config import RunConfig  # noqa: E402
from train.devices import ONE_DEVICE  # noqa: E402
from train.recipes import RECIPES  # noqa: E402
from train.runs import seeds_at_one_step, why_apart  # noqa: E402
from train.seed_steps import unroll_convolutions  # noqa: E402

TOGETHER_AND_APART = """
import itertools, json
import keras, numpy as np
import keras_resv2
from train.data.device_data import DeviceData
from train.devices import ONE_DEVICE
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.seed_steps import JaxSeedSteps
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


LOCKSTEP = """
import json, pathlib, sys
import keras, numpy as np
import keras_resv2
from train import loop
from train.config import RunConfig
from train.data.device_data import DeviceData
from train.recipes import RECIPES
from train.run_files import read_history
from train.runs import seeds_at_one_step

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (40, 8, 8, 3), dtype="uint8"), np.arange(40) % 10
recipe = RECIPES["fast"].with_values(["batch_size=8", "dtype=float32", "steps=7", "label_smoothing=0.1"])
out = pathlib.Path(sys.argv[1])

def make(seed):
    keras.utils.set_random_seed(seed)
    model = keras_resv2.ResNet(8, input_shape=(8, 8, 3), classifier_activation=None)
    def measure(network):
        logits = network.predict_on_batch(images)
        return {"test_error": 100 * float(np.mean(logits.argmax(1) != labels)), "test_error_sum": float(logits.sum())}
    return model, DeviceData(images, labels, recipe, seed), measure

def together(seeds, stop_at=None, broken=None):
    models, sources, measures = zip(*map(make, seeds))
    if broken is not None:
        bias = models[broken].get_layer("head_dense").bias
        bias.assign(np.full(bias.shape, np.inf))
    configs = {seed: RunConfig("resnet20", "fast", recipe, seed=seed, out=out / f"{broken}{seed}") for seed in seeds}
    for config in configs.values():
        config.out.mkdir(exist_ok=True)
    assert seeds_at_one_step(configs)[0] == list(seeds)
    done = []
    return loop.train_seeds(
        models, sources, measures, recipe, [config.out for config in configs.values()], checkpoint_seconds=0,
        step=seeds_at_one_step(configs)[1], evaluate_every=1, stop=lambda: done[-1:] >= [stop_at or 99],
        callbacks=[[lambda progress, *_: done.append(progress.step)], *[[]] * (len(seeds) - 1)],
    )

def rows(path):
    return [[row[key] for key in ("step", "train_loss", "train_error", "test_error", "test_error_sum")]
            for row in read_history(path / "history.csv")]

found = {}
try:
    together((3, 4), stop_at=2)
except loop.Stopped as stopped:
    found["stopped"] = str(stopped)
together((3, 4))
found["together"] = [rows(out / f"None{seed}") for seed in (3, 4)]
found["broken"] = [str(type(one).__name__) for one in together((3, 4), broken=1)]
found["beside"] = rows(out / "13")
apart = []
for seed in (3, 4):
    model, source, measure = make(seed)
    (out / f"apart{seed}").mkdir()
    loop.train(model, source, measure, recipe, out / f"apart{seed}", evaluate_every=1)
    apart.append(rows(out / f"apart{seed}"))
found["apart"] = apart
found["weights"] = [(out / f"None{seed}/weights.h5").exists() for seed in (3, 4)]
print(json.dumps(found))
"""


def test_the_loop_trains_seeds_in_lockstep(tmp_path):
    """Stopped and resumed: losses and errors equal those of separate runs. A diverged seed does not affect others."""
    done = subprocess.run(
        [sys.executable, "-c", LOCKSTEP, str(tmp_path)], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert re.match("stopped after step [2-6], saved in", found["stopped"]) and found["weights"] == [True, True]
    assert found["broken"] == ["Progress", "Diverged"]
    together, apart = np.array(found["together"]), np.array(found["apart"])
    assert apart.shape == (2, 2, 5) and not np.allclose(apart[0], apart[1], rtol=0.01)
    np.testing.assert_allclose(together, apart, rtol=5e-3)
    np.testing.assert_allclose(found["beside"], apart[0], rtol=5e-3)


def test_seeds_whose_checkpoints_are_of_the_same_step_go_on_together(tmp_path):
    for seed, steps in {0: (5, 10), 1: (10,), 2: (), 3: (5, 10), 4: (20,)}.items():
        (tmp_path / f"{seed}").mkdir()
        for step in steps:
            (tmp_path / f"{seed}/checkpoint-{step:08d}.npz").touch()
    configs = {seed: RunConfig("resnet20", "fast", RECIPES["fast"], out=tmp_path / f"{seed}") for seed in range(5)}
    assert seeds_at_one_step(configs) == ([0, 1, 3], 10)
    assert seeds_at_one_step({seed: configs[seed] for seed in (2, 4)}) == ([4], 20)


@pytest.mark.parametrize("changes, says", [
    ({"values": RECIPES["fast"].with_values(["average=ema"])}, "runs with averaged weights"),
    ({"values": RECIPES["fast"].with_values(["units_per_batch=3"])}, "skip units"),
    ({"values": RECIPES["fast"].with_values(["image_size=24"])}, "resized images"),
    ({"values": RECIPES["imagenet"]}, "images from disk"),
    ({"forms": ("rolled",)}, "rolled networks"),
])  # fmt: skip
def test_reasons_why_seeds_cannot_share_a_program(monkeypatch, changes, says):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    config = RunConfig("resnet20", "fast", RECIPES["fast"])
    assert why_apart(config, ONE_DEVICE) is None
    assert says in why_apart(dataclasses.replace(config, **changes), ONE_DEVICE)


def test_convolutions_are_unrolled_and_all_else_is_batched():
    """Values and gradients of three seeds; the program does not contain grouped convolutions."""
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
