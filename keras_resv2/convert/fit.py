"""Compares tensors with the architecture that their names indicate."""

import dataclasses

from keras_resv2.architectures import WIDEST, find_architecture, is_architecture, name_architecture
from keras_resv2.argument_checks import some
from keras_resv2.convert.network import other_network, stem_kernel
from keras_resv2.convert.weight_shapes import weight_shapes
from keras_resv2.models.config import IMAGENET_WIDTHS, STEMS, needed_arguments, resolve_network
from keras_resv2.models.depths import IMAGENET_UNITS

FIRST_CONV = "stage1_unit1_conv1"


@dataclasses.dataclass(frozen=True)
class KeyMismatch:
    """Differences between the tensors of a source and those that a network needs.

    Attributes:
        missing: names that the network needs and the source lacks.
        unexpected: names that the source has and the network does not.
        shapes: tensors of another shape, as ``(name, shape found, shape expected)``.
    """

    missing: tuple
    unexpected: tuple
    shapes: tuple

    @classmethod
    def between(cls, expected, tensors):
        """Compares a dictionary of shapes with one of arrays."""
        return cls(
            tuple(name for name in expected if name not in tensors),
            tuple(name for name in tensors if name not in expected),
            tuple(
                (name, tensors[name].shape, tuple(shape))
                for name, shape in expected.items()
                if name in tensors and tensors[name].shape != tuple(shape)
            ),
        )

    @property
    def count(self):
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    def phrase(self, spelled):
        """The mismatch in words.

        Args:
            spelled: the source's own names of its tensors, by the names of the layout.
        """
        shapes = [f"{spelled[name]} is {found}, {expected} expected" for name, found, expected in self.shapes]
        kinds = (
            ("missing", self.missing, ", "),
            ("unexpected", [spelled[name] for name in self.unexpected], ", "),
            ("of another shape", shapes, "; "),
        )
        return "; ".join(
            f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {kind} ({some(names, separator)})"
            for kind, names, separator in kinds
            if names
        )


@dataclasses.dataclass(frozen=True)
class Fit:
    """Tensors compared with those of one architecture.

    Attributes:
        architecture: its name.
        arguments: of its builder, those that differ from the defaults.
        shapes: of our weights, by name.
        mismatch: `KeyMismatch` of the tensors.
    """

    architecture: str
    arguments: dict
    shapes: dict
    mismatch: KeyMismatch

    @classmethod
    def of(cls, architecture, network, structure):
        row = find_architecture(architecture)
        own = row.arguments()
        own |= {"branch": structure["branch"]} if _fits_both_branches(row) and "branch" in structure else {}
        unnamed = name_architecture(row.depth, row.activation, structure["width"])[1]
        own |= unnamed if row.width == 1 else {}
        structure = {name: value for name, value in structure.items() if name not in ("branch", "width")}
        shapes = weight_shapes(classes_of(network), **own, **structure)
        mismatch = KeyMismatch.between(network.layout.expected(shapes, network.tensors), network.tensors)
        return cls(architecture, _needed(row, own, structure), shapes, mismatch)


def best_fit(network, structure, label, architecture=None):
    """Compares a network's tensors with the architecture that their names indicate.

    Args:
        network: `keras_resv2.convert.network.Network`.
        structure: arguments of `ResNet` except the depth and activation.
        label: what to call the source in a message.
        architecture: the architecture that the caller asks for; None for the one that the names indicate.

    Returns:
        `Fit` without a mismatch.

    Raises:
        ValueError: if the tensors do not fit; the message lists them, and names the nearest architecture.
    """
    fit = nearest = Fit.of(_architecture(network), network, structure)
    if architecture not in (None, fit.architecture):
        same = find_architecture(architecture).activation == network.layout.activation
        fit = Fit.of(architecture, network, structure) if same else None
    if fit is not None and not fit.mismatch.count:
        return fit
    why = fit.mismatch.phrase(network.spelled) if fit else "its networks have another order of BN and ReLU"
    kind = other_network(network.tensors)
    if not nearest.mismatch.count:
        offer = f"It fits {nearest.architecture}."
    elif kind:
        offer = f"It {kind}: no such networks are read."
    else:
        count, total = nearest.mismatch.count, len(nearest.shapes)
        offer = f"Nearest: {nearest.architecture}, from which {count} of {total} tensors differ."
    what = architecture or "any architecture"
    raise ValueError(f"{label} (layout {network.layout.name}) does not fit {what}: {why}. {offer}")


def _architecture(network):
    """Returns the architecture that the names of the tensors indicate, or the nearest one."""
    activation, width = network.layout.activation, _width(network)
    counts, per_unit = _units(network)
    kernel = network.tensors.get(network.layout.key("stem_conv/kernel"))
    wide = kernel is not None and kernel.ndim == 4 and IMAGENET_WIDTHS[0] == network.layout.outputs(kernel)
    cifar, _ = name_architecture(3 * per_unit * max(counts, default=1) + 2, activation, width)
    if len(counts) < 4 and not wide and is_architecture(cifar):
        return cifar
    branch = "bottleneck" if per_unit == 3 else "basic"
    padded = (*counts, *[0] * 4)[:4]
    depths = {
        depth: sum(abs(one - other) for one, other in zip(padded, units, strict=True))
        for depth, (own, units) in IMAGENET_UNITS.items()
        if own == branch
    }
    return name_architecture(min(depths, key=depths.__getitem__), activation, width)[0]


def _units(network):
    """Returns the number of units in each stage, and of convolutions in a unit."""
    key, counts = network.layout.key, []
    while key(f"stage{len(counts) + 1}_unit1_conv1/kernel") in network.tensors and len(counts) < 4:
        unit = 1
        while key(f"stage{len(counts) + 1}_unit{unit + 1}_conv1/kernel") in network.tensors:
            unit += 1
        counts.append(unit)
    return counts, 3 if key("stage1_unit1_conv3/kernel") in network.tensors else 2


def _width(network):
    """Returns the widening factor: the channels of the first unit's first convolution divided by those of the stem."""
    first, stem = (network.tensors.get(network.layout.key(f"{name}/kernel")) for name in (FIRST_CONV, "stem_conv"))
    if first is None or stem is None or first.ndim != 4 or stem.ndim != 4 or not stem.size:
        return 1
    width, remainder = divmod(network.layout.outputs(first), network.layout.outputs(stem))
    return width if not remainder and 1 <= width <= WIDEST else 1


def seen_arguments(network):
    """Returns the arguments of `ResNet` that follow from the names and shapes of the tensors."""
    layout, tensors = network.layout, network.tensors

    def has(name):
        return layout.key(name) in tensors

    per_unit, width = _units(network)[1], _width(network)
    # A unit that changes neither size nor width.
    unchanged = "stage1_unit1" if per_unit == 2 and width == 1 else "stage1_unit2"
    projected = "C" if has(f"{unchanged}_shortcut_conv/kernel") else "B"
    preactivated = layout.activation == "full_preactivation"
    unnormalized = ["stem_conv/bias", f"stage1_unit1_conv{per_unit}/bias", "stage2_unit1_shortcut_conv/bias"]
    return {
        "branch": "bottleneck" if per_unit == 3 else "basic",
        "stem": "cifar" if stem_kernel(tensors, layout) == STEMS["cifar"].kernel_size else "imagenet",
        "projection": projected if has("stage2_unit1_shortcut_conv/kernel") else "A",
        "conv_bias": preactivated and any(map(has, unnormalized)),
        "width": width,
    }


def classes_of(network):
    """Returns the number of classes; None without a classifier."""
    key = network.layout.key
    kernel, bias = (network.tensors.get(key(f"head_dense/{variable}")) for variable in ("kernel", "bias"))
    if bias is not None and bias.ndim == 1:
        return len(bias) or None
    return network.layout.outputs(kernel) if bias is None and kernel is not None and kernel.ndim > 1 else None


def _fits_both_branches(row):
    """Returns whether both basic units and bottlenecks give this depth."""
    return row.depth not in IMAGENET_UNITS and (row.depth - 2) % 6 == 0 and (row.depth - 2) % 9 == 0


def _needed(row, own, structure):
    """Returns the arguments that are needed in addition to those of the row."""
    bottleneck = resolve_network(**own, **structure)[0].branch == "bottleneck"
    needed = dict(structure)
    if not bottleneck:
        needed.pop("stride_on", None)
    needed |= {name: value for name, value in own.items() if name not in row.arguments()}
    return needed_arguments(row.arguments(), needed)
