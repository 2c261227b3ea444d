"""Checks that an accelerator computes correctly, before measuring or training on it.

    KERAS_BACKEND=jax python -m benchmarks.gpu_probe [--network resnet20-cifar10]

Prints the device and versions, then one line for each check with its error and the tolerance. Exit code 1 if a check
fails. The checks also run on a CPU.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
import traceback

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import keras_resv2
from keras_resv2.models.batch_norm_jax import batch_norm
from train.data.device_data import DeviceData
from train.devices import ONE_DEVICE
from train.optimizer import make_optimizer
from train.recipes import RECIPES
from train.steps import JaxSteps


def root():
    """Returns ``(error, bound)`` of an eager square root, which some versions computed wrongly on some GPUs."""
    return abs(float(jnp.sqrt(jnp.float32(512))) - math.sqrt(512)), 1e-5


def sums():
    """Returns the relative error of eager sums."""
    values = np.random.default_rng(0).normal(1, 1, (4, 1000)).astype("float32")
    return _relative(jnp.asarray(values).sum(1), values.astype("float64").sum(1)), 1e-5


def convolution():
    """Returns the relative error of a 3x3 convolution in bfloat16 compared with float32."""
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(8, 32, 32, 16)), rng.normal(size=(3, 3, 16, 32))

    @jax.jit
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    half, single = (convolve(jnp.asarray(images, t), jnp.asarray(kernel, t)) for t in ("bfloat16", "float32"))
    return _relative(half, single), 0.02


def batch_normalization():
    """Returns the relative error of one-pass statistics with a large mean compared with float64."""
    x = np.random.default_rng(0).normal(100, 1, (128, 16, 16, 32)).astype("float32")
    _, mean, variance = jax.jit(batch_norm, static_argnums=(3, 4))(x, jnp.ones(32), jnp.zeros(32), 3, 1e-5)
    return max(
        _relative(mean, x.mean((0, 1, 2), "float64")), _relative(variance, x.astype("float64").var((0, 1, 2)))
    ), 1e-4


def published_network(name):
    """Returns the largest difference between a published network's probabilities in bfloat16 and float32."""
    shape = keras_resv2.pretrained_card(name).image_shape
    images = np.random.default_rng(0).integers(0, 256, (64, *shape), dtype="uint8")
    half, single = (
        np.asarray(keras_resv2.from_pretrained(name, dtype=dtype).predict_on_batch(images), "float32")
        for dtype in ("mixed_bfloat16", "float32")
    )
    return float(np.abs(half - single).max()), 0.15


def training():
    """Compares the mean loss of the last four of 32 steps between a compiled loop and single steps."""
    images = np.random.default_rng(0).integers(0, 256, (256, 16, 16, 3), dtype="uint8")
    recipe = RECIPES["paper"].with_values(["batch_size=32"])
    losses = []
    for compiled_loop in (True, False):
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet(8, input_shape=(16, 16, 3), classifier_activation=None)
        source = DeviceData(images, images[:, 0, 0, 0] % 10, recipe, 0)
        steps = JaxSteps(model, make_optimizer(recipe, model.trainable_variables), source, ONE_DEVICE, compiled_loop)
        losses.append(np.asarray(steps.run([0.01] * 32, [source.draw(i) for i in range(32)])[0])[28:32].mean())
    return abs(float(losses[0] - losses[1])), 0.1


def _relative(found, expected):
    """Returns the largest difference relative to the largest value."""
    found, expected = np.asarray(found, "float64"), np.asarray(expected, "float64")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20-cifar10", help="one of `keras-resv2 list`")
    arguments = parser.parse_args()
    print(f"JAX {jax.__version__}, Keras {keras.__version__}, NumPy {np.__version__}, {jax.devices()}", flush=True)
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi"], check=False)
    checks = {function.__name__: function for function in (root, sums, convolution, batch_normalization)}
    checks |= {arguments.network: lambda: published_network(arguments.network), "training": training}
    failed = []
    for name, check in checks.items():
        started = time.monotonic()
        try:
            error, bound = check()
        except Exception:  # the other checks show what still works
            traceback.print_exc()
            error, bound = math.nan, math.nan
        verdict = "ok" if error <= bound else "FAILED"  # NaN fails
        print(f"{verdict:8}{name:24}{error:.2g}, at most {bound:g}  ({time.monotonic() - started:.1f} s)", flush=True)
        failed += [name] if verdict != "ok" else []
    sys.exit(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
