"""Counts the kernel launches of a training step on a GPU without needing a GPU.

    python -m benchmarks.gpu_compile resnet110 [--recipe fast] [--seeds 5] [--rolled] [--target h100.txtpb]

XLA's CUDA compiler also runs on a CPU. This compiles the training loop of `train.steps` for the GPU described by a
target file (that of an H100 is next to this file) and counts the launches of one step, and what the host issues for it.
It does not measure time or the result of autotuning, and does not see inside cuDNN.

It needs its own environment, with the Python and JAX versions of the GPU machine:

    python3.12 -m venv gpu-env
    gpu-env/bin/pip install jax==0.11.2 h5py absl-py rich pillow filelock namex optree packaging
    gpu-env/bin/pip install --no-deps keras==3.15.1
    gpu-env/bin/pip install --no-deps --target gpu-env/cuda jax-cuda13-plugin==0.11.2 jax-cuda13-pjrt==0.11.2
    export XLA_FLAGS=--xla_gpu_enable_command_buffer=+WHILE,+CONVOLUTION PYTHONPATH=.:gpu-env/cuda
    gpu-env/bin/python -m benchmarks.gpu_compile preact_resnet20

ResNet-110 takes minutes and 4 GB of memory.
"""

import argparse
import collections
import os
import pathlib
import re
import sys
import tempfile
import time

TARGET = pathlib.Path(__file__).with_name("h100.txtpb")
IMAGES = 50_000  # of CIFAR-10
NO_LAUNCH = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "fusion-done"}
CONTAINERS = {"kCommandBuffer", "kAsyncStart", "kAsyncDone", "kDynamicSliceFusion", "kSequential"}


def count_kernels(program):
    """Counts the operations of a step that launch something, in the largest loop body of a compiled program.

    Args:
        program: text of an optimized HLO module.

    Returns:
        `collections.Counter` of "fusion", "copy" or the targets of library calls.

    Raises:
        ValueError: if the program has no loop.
    """
    bodies, loops, lines = {}, set(), None
    for line in program.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            lines = bodies[start.group(1)] = []
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
            loops.update(re.findall(r" while\(.*body=%?([\w.\-]+)", line))
    if not loops:
        raise ValueError("the compiled program has no loop.")
    found = collections.Counter()
    for line in max((bodies[name] for name in loops), key=len):
        kind = re.search(r" = (?:\([^=]*?\)|\S+) ([\w\-]+)\(", line)
        if kind and kind.group(1) not in NO_LAUNCH:
            call = re.search(r'custom_call_target="([^"]+)"', line)
            found[call.group(1) if call else kind.group(1).removesuffix("-start")] += 1
    return found


def count_launches(sequence):
    """Counts the launches of one step: the thunks of the largest loop body, in graphs or not.

    Some operations launch two kernels, so the result is slightly larger than that of `count_kernels`.

    Args:
        sequence: text of the program's thunks, as dumped by XLA.

    Returns:
        `collections.Counter` of kinds of thunks.
    """
    largest, lines = collections.Counter(), sequence.splitlines()
    for i, line in enumerate(lines):
        start = re.match(r"( *)\d+: kWhile", line)
        if not start:
            continue
        found, inside = collections.Counter(), False
        for later in lines[i + 1 :]:
            thunk = re.match(r"( *)\d+: (k\w+)", later)
            if re.match(r" *(body|condition):", later):
                inside = "body" in later
            elif thunk and len(thunk.group(1)) <= len(start.group(1)):
                break
            elif thunk and inside and thunk.group(2) not in CONTAINERS:
                found[thunk.group(2)] += 1
        largest = max(largest, found, key=lambda counter: counter.total())
    return largest


def host_issues(sequence):
    """Counts what the host issues for a step, or for a whole loop if that is one graph.

    Args:
        sequence: text of the program's thunks, as dumped by XLA.

    Returns:
        ``(kinds, where)``: `collections.Counter` of kinds of thunks, and "step" or "loop". Nothing is issued for a step
        of a loop that is part of a graph.
    """
    lines = sequence.splitlines()
    thunks = [re.match(r"( *)\d+: (k\w+)", line) for line in lines]
    top = min(len(thunk.group(1)) for thunk in thunks if thunk)
    outer = collections.Counter(thunk.group(2) for thunk in thunks if thunk and len(thunk.group(1)) == top)
    for i, thunk in enumerate(thunks):
        if not thunk or thunk.group(2) != "kWhile" or len(thunk.group(1)) > top:
            continue
        body = []
        for line, inner in zip(lines[i + 1 :], thunks[i + 1 :], strict=True):
            if inner and len(inner.group(1)) <= top:
                break
            if re.match(r" *condition:", line) or re.match(r" *body:", line):
                body = []
            elif inner:
                body.append((len(inner.group(1)), inner.group(2)))
        if body:
            level = min(depth for depth, _ in body)
            return collections.Counter(kind for depth, kind in body if depth == level), "step"
    return outer, "loop"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="one of `keras-resv2 list --architectures`")
    parser.add_argument("--recipe", default="fast", help="a row of train/recipes.py")
    parser.add_argument("--seeds", type=int, help="number of networks in one program")
    parser.add_argument("--rolled", action="store_true", help="units of a stage as a loop")
    parser.add_argument("--target", type=pathlib.Path, default=TARGET, help="GPU to compile for (GpuTargetConfig)")
    parser.add_argument("--save", type=pathlib.Path, help="file for the compiled program's text")
    arguments = parser.parse_args()
    dump = tempfile.TemporaryDirectory(prefix="xla-dump-")
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ.update(
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=f"{flags} --xla_dump_to={dump.name} --xla_dump_hlo_module_re=_many",
    )
    try:
        steps = _make_steps(arguments)
        started = time.monotonic()
        lowered = _lower(steps, arguments.seeds, arguments.target.read_text())
        print(f"traced in {time.monotonic() - started:.0f} s", flush=True)
        started = time.monotonic()
        compiled = lowered.compile()
        print(f"compiled in {time.monotonic() - started:.0f} s")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    text = compiled.as_text()
    if arguments.save:
        arguments.save.write_text(text)
    kernels = count_kernels(text)
    print(f"operations of a step: {kernels.total():,}: {_listed(kernels)}")
    for path in pathlib.Path(dump.name).glob("*thunk_sequence_after_thunk_passes.txt"):
        sequence = path.read_text()
        launches, (issued, unit) = count_launches(sequence), host_issues(sequence)
        of_seeds = f" ({launches.total() / arguments.seeds:.0f} per seed)" if arguments.seeds else ""
        print(f"launches of a step: {launches.total():,}{of_seeds}: {_listed(launches)}")
        print(f"issued by the host for a {unit}: {issued.total():,}: {_listed(issued)}")
    print(f"{compiled.memory_analysis().temp_size_in_bytes / 1e6:,.0f} MB of temporary memory")


def _listed(counter):
    return ", ".join(f"{count:,} {kind}" for kind, count in counter.most_common())


def _make_steps(arguments):
    """Creates the steps of a training run with the shapes of CIFAR-10 and a few random images."""
    import keras
    import numpy as np

    from keras_resv2.builders import build
    from train.data.device_data import DeviceData
    from train.devices import ONE_DEVICE
    from train.optimizer import make_optimizer
    from train.recipes import RECIPES
    from train.seed_steps import JaxSeedSteps
    from train.steps import JaxSteps

    recipe = RECIPES[arguments.recipe]
    keras.config.set_dtype_policy(recipe.dtype)
    images = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype="uint8")
    source = DeviceData(images, np.arange(512) % 10, recipe, 0)
    form = {"classes": 10, "input_shape": (32, 32, 3), "classifier_activation": None, "rolled": arguments.rolled}
    models = [build(arguments.model, **form) for _ in range(arguments.seeds or 1)]
    optimizers = [make_optimizer(recipe, model.trainable_variables) for model in models]
    if arguments.seeds:
        return JaxSeedSteps(models, optimizers, [source] * len(models), compiled_loop=True)
    return JaxSteps(models[0], optimizers[0], source, ONE_DEVICE, compiled_loop=True)


def _lower(steps, seeds, target):
    """Lowers the loop of `steps` for a GPU."""
    import jax
    from jax.experimental import topologies

    device = topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1").devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)

    def shaped(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    of_seeds = (seeds,) if seeds else ()
    variables = [[jax.ShapeDtypeStruct((*of_seeds, *v.shape), v.dtype) for v in kind] for kind in steps._variables]
    state = jax.tree.map(lambda array: shaped(array.shape, array.dtype), jax.eval_shape(steps._pack, variables))
    results = (shaped((*of_seeds, steps._most_steps), "float32"),) * 2
    pixels, classes = steps._source.device_data
    device_data = shaped((IMAGES * len(pixels) // len(classes), 3), "uint8"), shaped((IMAGES,), "int32")
    feeds = [shaped((steps.block, *of_seeds, *array.shape), array.dtype) for array in steps._source.draw(0)]
    arguments = state, results, device_data, shaped((), "int32"), [shaped((steps.block,), "float32")], feeds
    return steps._loop.trace(*arguments).lower(lowering_platforms=("cuda",))


if __name__ == "__main__":
    main()
