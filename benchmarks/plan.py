"""The contenders: networks, implementations, backends and precisions, and the reasons why some cannot run."""

import dataclasses
import importlib.util
import shutil
import sys

from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.argument_checks import check_choice

BACKENDS = ("tensorflow", "jax", "torch")
PRECISIONS = ("float32", "bfloat16")
MEASURES = ("open", "infer", "train", "memory")
REFERENCE = "stock"

# Networks of keras.applications by their names in this package.
APPLICATIONS = {
    **{f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"preact_resnet{depth}": f"ResNet{depth}V2" for depth in (50, 101, 152)},
}


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to build and run a network.

    Attributes:
        implementation: ``module:class`` used by a worker.
        needs: required Python packages.
        keras: whether it uses a Keras backend.
        trains: whether it supports training.
    """

    implementation: str
    needs: tuple[str, ...] = ()
    keras: bool = False
    trains: bool = True


IMPLEMENTATIONS = {
    "keras-resv2": Implementation("benchmarks.keras_implementations:KerasResv2", keras=True),
    "keras-resv2-folded": Implementation("benchmarks.keras_implementations:Folded", keras=True, trains=False),
    "keras-resv2-rolled": Implementation("benchmarks.keras_implementations:Rolled", keras=True),
    "stock": Implementation("benchmarks.keras_implementations:Stock", keras=True),
    "keras.applications": Implementation("benchmarks.keras_implementations:Applications", keras=True),
    "torch-eager": Implementation("benchmarks.torch_implementations:Eager", ("torch",)),
    "torch-compiled": Implementation("benchmarks.torch_implementations:Compiled", ("torch",)),
    "onnxruntime": Implementation(
        "benchmarks.onnx_implementation:OnnxRuntime", ("onnxruntime", "torch", "onnx", "onnxscript"), trains=False
    ),
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One network in one implementation and precision, run by one worker process.

    Attributes:
        network: one of `keras_resv2.list_architectures()`.
        implementation: a key of `IMPLEMENTATIONS`.
        backend: Keras backend; None for implementations without Keras.
        precision: "float32", or "bfloat16" (with weights in float32).
    """

    network: str
    implementation: str
    backend: str | None
    precision: str

    @property
    def name(self):
        """Implementation and backend, as shown in the table."""
        return f"{self.implementation} ({self.backend})" if self.backend else self.implementation

    def __str__(self):
        return f"{self.network}, {self.name}, {self.precision}"

    def task(self):
        """Returns the contender as a JSON-serialisable dictionary for a worker."""
        row = ARCHITECTURES[self.network]
        return {
            **dataclasses.asdict(self),
            "implementation": IMPLEMENTATIONS[self.implementation].implementation,
            "depth": row.depth,
            "activation": row.activation,
            "width": row.width,
            "application": APPLICATIONS.get(self.network),
        }


def make_contenders(networks, implementations, backends, precisions, gpu=False):
    """Creates all combinations, in the order of the arguments.

    Args:
        networks: names of architectures.
        implementations: keys of `IMPLEMENTATIONS`.
        backends: Keras backends, for implementations that use Keras.
        precisions: subset of `PRECISIONS`.
        gpu: whether to run on an accelerator.

    Returns:
        ``(contenders, skipped)``: a list of `Contender` that can run here, and a list of pairs of a
        `Contender` and the reason why it cannot.

    Raises:
        ValueError: if a name is not a valid choice.

    Example:

    >>> contenders, skipped = make_contenders(["resnet20"], ["keras.applications"], ["jax"], ["float32"])
    >>> contenders, skipped[0][1]
    ([], 'keras.applications has no resnet20')
    """
    for argument, values, choices in (
        ("network", networks, ARCHITECTURES),
        ("contender", implementations, IMPLEMENTATIONS),
        ("backend", backends, BACKENDS),
        ("precision", precisions, PRECISIONS),
    ):
        for value in values:
            check_choice(argument, value, choices)
    contenders, skipped = [], []
    for network in dict.fromkeys(networks):
        for precision in dict.fromkeys(precisions):
            for name in dict.fromkeys(implementations):
                for backend in dict.fromkeys(backends) if IMPLEMENTATIONS[name].keras else (None,):
                    contender = Contender(network, name, backend, precision)
                    reason = obstacle(contender, gpu)
                    if reason:
                        skipped.append((contender, reason))
                    else:
                        contenders.append(contender)
    return contenders, skipped


def obstacle(contender, gpu=False):
    """Returns why a contender cannot run here, or None if it can."""
    name = contender.implementation
    if name == "keras.applications" and contender.network not in APPLICATIONS:
        return f"keras.applications has no {contender.network}"
    needs = (*IMPLEMENTATIONS[name].needs, *([contender.backend] if contender.backend else []))
    missing = [package for package in needs if not installed(package)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if name == "onnxruntime" and contender.precision != "float32":
        return f"ONNX Runtime has no convolution in {contender.precision} for every device"
    if name == "torch-compiled" and not gpu and sys.platform != "win32" and not _compiler():
        return "not installed: a C++ compiler, which torch.compile needs (g++ or clang++)"
    return None


def installed(package):
    """Returns whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def _compiler():
    return any(shutil.which(command) for command in ("g++", "c++", "clang++"))
