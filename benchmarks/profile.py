"""Profiles a training step on a CPU: time by kind of TensorFlow operation.

    python -m benchmarks.profile resnet20 --contenders keras-resv2 stock --precisions float32 bfloat16

Prints a Markdown table with the milliseconds per step in each kind of operation, for each contender and precision.
Operations run in parallel, so their sum exceeds the time of the step.
"""

import argparse
import collections
import glob
import os
import re
import sys
import tempfile

from benchmarks.measure import Settings, start_worker
from benchmarks.plan import PRECISIONS, make_contenders
from benchmarks.process import WorkerError

WARM_UP, STEPS = 3, 10
CONTENDERS = ("keras-resv2", "stock")

# The kind of an operation is given by the first pattern that matches its type.
KINDS = (
    ("convolution: gradient of the kernel", r"Conv2DBackpropFilter"),
    ("convolution: gradient of the input", r"Conv2DBackpropInput"),
    ("convolution", r"Conv2D"),
    ("batch normalization, fused: gradient", r"BatchNormGrad"),
    ("batch normalization, fused", r"BatchNorm"),
    ("casts", r"Cast$"),
    ("ReLU and its gradient", r"Relu"),
    ("sums, means, products and other arithmetic", r"(Add|AddV2|AddN|Sub|Mul|RealDiv|Neg|Square|SquaredDifference|Rsqrt"
     r"|Sqrt|Sum|Mean|Tile|BroadcastTo|DivNoNan|Reciprocal|RsqrtGrad)$"),
    ("updates of variables", r"(Assign|ResourceApply|ReadVariable|VarHandle)"),
)  # fmt: skip
OTHER = "everything else"


def kind_of(operation):
    """Returns the kind of a TensorFlow operation.

    Example:

    >>> kind_of("_MklNativeConv2DBackpropFilter"), kind_of("_MklAddV2"), kind_of("Pad")
    ('convolution: gradient of the kernel', 'sums, means, products and other arithmetic', 'everything else')
    """
    return next((kind for kind, pattern in KINDS if re.search(pattern, operation)), OTHER)


def trace(call, steps):
    """Runs a function in a worker and sums up the operations in TensorFlow's profile.

    Args:
        call: function without arguments that runs one training step.
        steps: number of calls.

    Returns:
        Dictionary from the type of an operation to milliseconds per step, summed over threads.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                call()
        (path,) = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
        with open(path, "rb") as file:
            planes = xplane_pb2.XSpace.FromString(file.read()).planes
    spent = collections.Counter()
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                name, colon, operation = plane.event_metadata[event.metadata_id].name.rpartition(":")
                # Operations are named "<layer>:<type>"; the executor around them "ExecutorState::Process".
                if colon and not name.endswith(":") and line.name.startswith("tf_Compute"):
                    spent[operation] += event.duration_ps / 1e9 / steps
    return dict(spent)


def by_kind(operations):
    """Sums up milliseconds by kind, in the order of `KINDS`.

    Example:

    >>> {kind: ms for kind, ms in by_kind({"Relu": 2.0, "ReluGrad": 3.0, "Pad": 1.0}).items() if ms}
    {'ReLU and its gradient': 5.0, 'everything else': 1.0}
    """
    spent = dict.fromkeys([*(kind for kind, _ in KINDS), OTHER], 0.0)
    for operation, milliseconds in operations.items():
        spent[kind_of(operation)] += milliseconds
    return spent


def profile(contender, settings, steps, start=start_worker):
    """Profiles one contender in its own process.

    Args:
        contender: `benchmarks.plan.Contender` on TensorFlow.
        settings: `benchmarks.measure.Settings`.
        steps: number of profiled training steps.
        start: function from a contender and the settings to a worker.

    Returns:
        ``(milliseconds of a step without the profiler, by_kind)``.

    Raises:
        WorkerError: if the worker failed.
    """
    with tempfile.TemporaryDirectory() as folder, start(contender, settings) as worker:
        task = dict(task=contender.task(), batch_size=settings.batch_size, gpu=False, folder=folder)
        worker.ask("build", **task)
        worker.ask("train", batches=WARM_UP)
        seconds = worker.ask("train", batches=steps)["seconds"]
        return 1000 * seconds / steps, by_kind(worker.ask("profile", batches=steps)["operations"])


def as_markdown(profiles):
    """Formats the table with one row per kind and one column per contender.

    Args:
        profiles: dictionary from a contender's title to the result of `profile`.
    """
    rows = [["milliseconds per step", *profiles]]
    for kind in [*(kind for kind, _ in KINDS), OTHER]:
        totals = {title: sum(kinds.values()) for title, (_, kinds) in profiles.items()}
        cells = [f"{kinds[kind]:.1f} ({kinds[kind] / totals[title]:.0%})" for title, (_, kinds) in profiles.items()]
        rows.append([kind, *cells])
    rows.append(["the step itself", *(f"{step:.1f}" for step, _ in profiles.values())])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * len(profiles))
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("network", help="one of `keras-resv2 list --architectures`")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--batch_size", type=int, default=Settings.batch_size, help="images per step")
    parser.add_argument("--steps", type=int, default=STEPS, help="number of profiled steps")
    arguments = parser.parse_args(argv)
    try:
        if arguments.batch_size < 1 or arguments.steps < 1:
            raise ValueError("--batch_size and --steps must be at least 1.")
        contenders, skipped = make_contenders(
            [arguments.network], arguments.contenders, ["tensorflow"], arguments.precisions
        )
        if skipped:
            raise ValueError("; ".join(f"{contender}: {reason}" for contender, reason in skipped))
        settings = Settings(batch_size=arguments.batch_size)
        profiles = {f"{c.implementation}, {c.precision}": profile(c, settings, arguments.steps) for c in contenders}
    except (ValueError, WorkerError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(as_markdown(profiles), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
