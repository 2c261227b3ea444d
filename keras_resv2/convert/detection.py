"""What a file holds: its layout, its architecture, and its weights under our names."""

import dataclasses
import inspect

from keras_resv2.architectures import ARCHITECTURES, build
from keras_resv2.choices import check_choice
from keras_resv2.convert import applications, cifar, timm, torchvision
from keras_resv2.convert.differences import Differences
from keras_resv2.convert.expected import expected_weights
from keras_resv2.convert.sources import STRUCTURE, read_structure, read_tensors
from keras_resv2.layouts import STEMS, resolve_network
from keras_resv2.pretrained.weight_file import check_values

PYTORCH = (timm.LAYOUT, torchvision.LAYOUT, cifar.ORIGINAL, cifar.PREACTIVATED)
KERAS = (applications.V1, applications.V2)
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(resolve_network).parameters.items()}


@dataclasses.dataclass(frozen=True)
class Detected:
    """Weights of another library, under our names.

    Attributes:
        source: what they were read from.
        layout: how their names were: "torchvision", "timm", "cifar", ...
        architecture: one of `keras_resv2.list_architectures()`.
        arguments: what its builder takes besides its defaults.
        classes: of the classifier; None without one.
        assumed: what the source does not say and was assumed, as phrases.
        weights: dictionary from ``<layer>/<variable>`` to a float32 array.
    """

    source: str
    layout: str
    architecture: str
    arguments: dict
    classes: int | None
    assumed: tuple[str, ...]
    weights: dict = dataclasses.field(repr=False)

    def build(self, **options):
        """The network with these weights.

        Args:
            **options: of the builder that change no weights: include_top, input_shape, pooling,
                classifier_activation, include_preprocessing, rolled, dtype, name, ...

        Returns:
            `keras.Model`.

        Raises:
            ValueError: the builder refuses an option, or it is the number of classes or one of `arguments`.
        """
        if "classes" in options:
            raise ValueError(
                f"the weights have {self.classes or 'no'} classes: for a new classifier build with include_top=False, "
                "or make a weight folder and call from_pretrained(folder, classes=...)."
            )
        for name in options.keys() & self.arguments.keys():
            raise ValueError(
                f"{name} is what was found of the weights, {self.arguments[name]!r}: "
                f"for another, detect(source, {name}=...).build()."
            )
        options = {"include_top": self.classes is not None, **options}
        return build(self.architecture, **self.arguments, weights=self.weights, classes=self.classes, **options)


def detect(source, architecture=None, **structure):
    """Reads weights of another library and finds the network that they are of.

    Args:
        source: path of a file (.pt, .pth, .safetensors, .h5, .weights.h5), a `state_dict()` or another
            dictionary of arrays, a PyTorch module or a model of keras.applications.
        architecture: one of `keras_resv2.list_architectures()`; None for the one that fits.
        **structure: arguments of `keras_resv2.ResNet` that the source does not say, as ``stride_on`` or
            ``preprocessing``, in place of what is assumed of its layout.

    Returns:
        `Detected`.

    Raises:
        ValueError: the source is damaged, of no known layout, or fits no such network: the message says
            which tensors are missing, left over or of another shape, and the nearest architecture.
        FileNotFoundError, ImportError: the file, or the package that reads it, is missing.

    Example:

    >>> detect("resnet18.pth").architecture  # doctest: +SKIP
    'resnet18'
    """
    return _detect(source, architecture, structure, (*PYTORCH, *KERAS))


def from_pytorch(source, architecture=None, **arguments):
    """A network with the weights of a PyTorch one: torchvision's, timm's or common CIFAR code's.

    Args:
        source: path of a .pt, .pth or .safetensors file, a `state_dict()`, a checkpoint that holds one,
            or a module. Files are read without running what they hold.
        architecture: one of `keras_resv2.list_architectures()`; None for the one that fits.
        **arguments: of the builder. Structural ones (``stride_on``, ``activated_shortcuts``,
            ``preprocessing``, ...) take the place of what is assumed of the layout.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)``, 0 to 255, to probabilities; with
        ``include_preprocessing=False, classifier_activation=None`` from what PyTorch's network takes,
        channels last, to its logits.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `detect`.

    Example:

    >>> model = from_pytorch("resnet18.pth", "resnet18")  # doctest: +SKIP
    """
    return _convert(source, architecture, arguments, PYTORCH)


def from_keras_applications(source, architecture=None, **arguments):
    """A network with the weights of keras.applications' `ResNet50`, `ResNet50V2` or the deeper ones.

    Args:
        source: path of their .h5 file, of a .weights.h5 file, or the model.
        architecture: "resnet50" or "preact_resnet50", 101, 152; None for the one that fits.
        **arguments: of the builder.

    Returns:
        `keras.Model` from raw pixels ``(batch, height, width, 3)`` in the order red, green, blue, 0 to
        255, to probabilities: the preprocessing that the weights expect is part of the model. The
        outputs of its stages are theirs too.

    Raises:
        ValueError, FileNotFoundError: as `detect`.

    Example:

    >>> model = from_keras_applications(keras.applications.ResNet50V2())  # doctest: +SKIP
    """
    return _convert(source, architecture, arguments, KERAS)


def _convert(source, architecture, arguments, layouts):
    structure = {key: value for key, value in arguments.items() if key in STRUCTURE}
    options = {key: value for key, value in arguments.items() if key not in STRUCTURE}
    return _detect(source, architecture, structure, layouts).build(**options)


def _detect(source, architecture, structure, layouts):
    for name in structure:
        check_choice("argument", name, STRUCTURE)
    if architecture is not None:
        check_choice("architecture", architecture, ARCHITECTURES)
    tensors, label = read_tensors(source)
    layout, spelled = _recognise(tensors, label, layouts)
    tensors = {name: tensors[original] for name, original in spelled.items()}
    said = {**read_structure(source), **structure}
    structure = {**_seen(tensors, layout), **layout.structure, **said}
    fits = {
        name: _Fit.of(name, layout, tensors, structure)
        for name, row in ARCHITECTURES.items()
        if row.activation == layout.activation
    }
    nearest = min(fits, key=lambda name: fits[name].differences.count)
    chosen = fits.get(architecture or nearest)
    if chosen is None or chosen.differences.count:
        why = chosen.differences.phrase(spelled) if chosen else "its networks have another order of BN and ReLU"
        what = architecture or "any architecture"
        raise ValueError(f"{label} (layout {layout.name}) does not fit {what}: {why}. {_offer(nearest, fits[nearest])}")
    weights = layout.weights(tensors, chosen.shapes)
    check_values(weights, label, lambda name: spelled[layout.key(name)])
    return Detected(
        label,
        layout.name,
        architecture or nearest,
        chosen.arguments,
        _classes(tensors, layout),
        tuple(layout.unsaid[key] for key in layout.unsaid if key not in said and chosen.depends_on(key)),
        weights,
    )


def _recognise(tensors, label, layouts):
    """The layout, and the source's own names by those of the layout."""
    for layout in layouts:
        spelled = {layout.spell(name): name for name in tensors}
        stem = _stem_kernel({key: tensors[name] for key, name in spelled.items()}, layout)
        if all(mark in spelled for mark in layout.marks) and layout.stem_kernel in (None, stem):
            return layout, spelled
    if layouts is not KERAS and all(mark in tensors for mark in cifar.MARKS_WITHOUT_LAST_BN):
        raise ValueError(
            f"{label} is a pre-activation network without the batch normalisation after its last addition, as "
            "kuangliu's PreActResNet18: not the network of He et al. 2016, and none that this package builds."
        )
    known = ", ".join(layout.name for layout in layouts)
    first = ", ".join(list(tensors)[:4])
    raise ValueError(f"{label} has none of the layouts that are read ({known}). Its first tensors are {first}.")


def _stem_kernel(tensors, layout):
    """Size of the first convolution; None without one."""
    kernel = tensors.get(layout.key("stem_conv/kernel"))
    return None if kernel is None or kernel.ndim != 4 else layout.kernel_size(kernel)


def _classes(tensors, layout):
    bias = tensors.get(layout.key("head_dense/bias"))
    return len(bias) if bias is not None and bias.ndim == 1 and len(bias) else None


def _seen(tensors, layout):
    """Arguments of `ResNet` that can be read off the tensors."""

    def has(name):
        return layout.key(name) in tensors

    projected = "C" if has("stage1_unit2_shortcut_conv/kernel") else "B"
    return {
        "stem": "cifar" if _stem_kernel(tensors, layout) == STEMS["cifar"].kernel_size else "imagenet",
        "projection": projected if has("stage2_unit1_shortcut_conv/kernel") else "A",
    }


@dataclasses.dataclass(frozen=True)
class _Fit:
    """How tensors compare with one architecture's.

    Attributes:
        arguments: of its builder besides its defaults.
        shapes: of our weights, by name.
        differences: of the tensors expected and those there are.
    """

    arguments: dict
    shapes: dict
    differences: Differences

    @classmethod
    def of(cls, architecture, layout, tensors, structure):
        row = ARCHITECTURES[architecture]
        own = {"depth": row.depth, "activation": row.activation}
        shapes = expected_weights(_classes(tensors, layout), **own, **structure)
        differences = Differences.between(layout.expected(shapes), tensors)
        return cls(_needed(own, structure, shapes), shapes, differences)

    def depends_on(self, argument):
        """Whether another value of an argument would give another network."""
        return argument != "stride_on" or "stage1_unit1_conv3/kernel" in self.shapes


def _needed(own, structure, shapes):
    """Arguments without those that change nothing."""
    network = resolve_network(**own, **structure)
    needed = dict(structure)
    if network[0].branch == "basic":
        needed.pop("stride_on", None)
    if structure.get("activated_shortcuts") == "projections" and "stage1_unit1_shortcut_conv/kernel" in shapes:
        del needed["activated_shortcuts"]  # the first unit's shortcut is a projection
    return {
        name: value
        for name, value in needed.items()
        if resolve_network(**own, **{**needed, name: DEFAULTS[name]}) != resolve_network(**own, **needed)
    }


def _offer(architecture, fit):
    if not fit.differences.count:
        return f"It fits {architecture}."
    return f"Nearest: {architecture}, from which {fit.differences.count} of {len(fit.shapes)} tensors differ."
