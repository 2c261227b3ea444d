"""Which architecture tensors are of, and with which arguments."""

import dataclasses

from keras_resv2.architectures import ARCHITECTURES, IMAGENET_DEPTHS, find_architecture
from keras_resv2.convert.differences import Differences
from keras_resv2.convert.expected import expected_weights
from keras_resv2.convert.recognition import stem_kernel
from keras_resv2.convert.refusals import reason
from keras_resv2.models.config import STEMS, needed_arguments, resolve_network


@dataclasses.dataclass(frozen=True)
class Fit:
    """How tensors compare with one architecture's.

    Attributes:
        architecture: its name.
        arguments: of its builder besides its defaults.
        shapes: of our weights, by name.
        differences: of the tensors expected and those there are.
    """

    architecture: str
    arguments: dict
    shapes: dict
    differences: Differences

    @classmethod
    def of(cls, architecture, network, structure):
        row = find_architecture(architecture)
        own = {"depth": row.depth, "activation": row.activation}
        own |= {"branch": structure["branch"]} if _may_be_either(row) and "branch" in structure else {}
        structure = {name: value for name, value in structure.items() if name != "branch"}
        shapes = expected_weights(classes_of(network), **own, **structure)
        differences = Differences.between(network.layout.expected(shapes, network.tensors), network.tensors)
        return cls(architecture, _needed(own, structure, shapes), shapes, differences)


def best_fit(network, structure, label, architecture=None):
    """The architecture that a network's tensors fit.

    Args:
        network: `keras_resv2.convert.recognition.Network`.
        structure: arguments of `ResNet` but the depth and activation.
        label: what to call the source in a message.
        architecture: its name, if it is known; None for the one that fits.

    Returns:
        `Fit`.

    Raises:
        ValueError: none fits, or not the one that was given.
    """
    names = _candidates(network, architecture)
    fits = {name: Fit.of(name, network, structure) for name in names}
    nearest = min(fits.values(), key=lambda fit: fit.differences.count)
    chosen = fits.get(architecture or nearest.architecture)
    if chosen is not None and not chosen.differences.count:
        return chosen
    why = chosen.differences.phrase(network.spelled) if chosen else "its networks have another order of BN and ReLU"
    kind = reason(network.tensors)
    if not nearest.differences.count:
        offer = f"It fits {nearest.architecture}."
    elif kind:
        offer = f"It {kind}: no such networks are read."
    else:
        count, total = nearest.differences.count, len(nearest.shapes)
        offer = f"Nearest: {nearest.architecture}, from which {count} of {total} tensors differ."
    what = architecture or "any architecture"
    raise ValueError(f"{label} (layout {network.layout.name}) does not fit {what}: {why}. {offer}")


def _candidates(network, architecture):
    """Names of the architectures in the table, and of those of the depth that the tensors have."""
    activation = network.layout.activation
    names = [name for name, row in ARCHITECTURES.items() if row.activation == activation]
    prefix = "preact_resnet" if activation == "full_preactivation" else "resnet"
    counts, per_unit = _units(network)
    depth = per_unit * sum(counts) + 2
    if len(counts) == 3 and len(set(counts)) == 1 and depth not in IMAGENET_DEPTHS:
        names = [f"{prefix}{depth}", *names]
    if architecture is not None and find_architecture(architecture).activation == activation:
        names = [architecture, *names]
    return list(dict.fromkeys(names))


def _units(network):
    """Number of units of each stage, and of convolutions in a unit."""
    key, counts = network.layout.key, []
    while key(f"stage{len(counts) + 1}_unit1_conv1/kernel") in network.tensors and len(counts) < 4:
        unit = 1
        while key(f"stage{len(counts) + 1}_unit{unit + 1}_conv1/kernel") in network.tensors:
            unit += 1
        counts.append(unit)
    return counts, 3 if key("stage1_unit1_conv3/kernel") in network.tensors else 2


def seen_arguments(network):
    """Arguments of `ResNet` that can be read off the tensors."""
    layout, tensors = network.layout, network.tensors

    def has(name):
        return layout.key(name) in tensors

    projected = "C" if has("stage1_unit2_shortcut_conv/kernel") else "B"
    counts, per_unit = _units(network)
    preactivated = layout.activation == "full_preactivation"
    unnormalised = ["stem_conv/bias", f"stage1_unit1_conv{per_unit}/bias", "stage2_unit1_shortcut_conv/bias"]
    return {
        "branch": "bottleneck" if per_unit == 3 else "basic",
        "stem": "cifar" if stem_kernel(tensors, layout) == STEMS["cifar"].kernel_size else "imagenet",
        "projection": projected if has("stage2_unit1_shortcut_conv/kernel") else "A",
        "conv_bias": preactivated and any(map(has, unnormalised)),
    }


def classes_of(network):
    """Classes of the classifier; None without one."""
    key = network.layout.key
    kernel, bias = (network.tensors.get(key(f"head_dense/{variable}")) for variable in ("kernel", "bias"))
    if bias is not None and bias.ndim == 1:
        return len(bias) or None
    return network.layout.outputs(kernel) if bias is None and kernel is not None and kernel.ndim > 1 else None


def _may_be_either(row):
    """Whether networks of that depth are made of basic units or of bottlenecks."""
    return row.depth not in IMAGENET_DEPTHS and (row.depth - 2) % 6 == 0 and (row.depth - 2) % 9 == 0


def _needed(own, structure, shapes):
    """Arguments without those that change nothing."""
    bottleneck = resolve_network(**own, **structure)[0].branch == "bottleneck"
    needed = dict(structure)
    if not bottleneck:
        needed.pop("stride_on", None)
    if structure.get("activated_shortcuts") == "projections" and "stage1_unit1_shortcut_conv/kernel" in shapes:
        del needed["activated_shortcuts"]  # the first unit's shortcut is a projection
    needed |= {"branch": own["branch"]} if "branch" in own else {}
    own = {name: value for name, value in own.items() if name != "branch"}
    return needed_arguments(own, needed)
