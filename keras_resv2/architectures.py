"""The table of named networks. It does not need Keras; `keras_resv2.builders` creates the builders from it."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import Any

from keras_resv2.argument_checks import check_choice
from keras_resv2.models.depths import CIFAR_LAYERS_PER_N, IMAGENET_UNITS


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A named network: the arguments of `ResNet`.

    Attributes:
        builder: name of the builder function, such as "PreActResNet20".
        depth: the argument of `ResNet`; two less than in the names of wide CIFAR networks, whose authors count the
            three projections and not the classifier.
        activation: "original" (v1) or "full_preactivation" (v2).
        source: paper that describes it.
        width: widening factor, see `keras_resv2.ResNet`.
    """

    builder: str
    depth: int
    activation: str
    source: str
    width: int = 1

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Returns the arguments of the network, as `keras_resv2.models.config.resolve_network` takes them.

        Args:
            **changes: arguments that a card or a user adds; `activation` replaces that of the row.

        Example:

        >>> ARCHITECTURES["resnet20"].arguments(projection="B")
        {'depth': 20, 'activation': 'original', 'projection': 'B'}
        """
        own: dict[str, Any] = {"depth": self.depth, "activation": self.activation}
        return {**own, **({} if self.width == 1 else {"width": self.width}), **changes}


V1 = "He et al. 2015, arXiv 1512.03385"
V2 = "He et al. 2016, arXiv 1603.05027"
WIDE = "Zagoruyko & Komodakis 2016, arXiv 1605.07146"
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 164, 1001)
DEEPEST, DEEPEST_WIDE, WIDEST = 1202, 100, 32  # a card from an untrusted source may name any depth and width
# (layers, widening factor). WRN-d-k with three stages of n basic pre-activation units has d = 6n+4: its authors
# count the three projections and not the classifier. Those of ImageNet are ResNet-v1 with wide bottlenecks.
WIDE_CIFAR = ((16, 8), (16, 10), (28, 10), (40, 2), (40, 4), (40, 8))
WIDE_IMAGENET = ((50, 2), (101, 2))


def _wide(layers: int, width: int) -> Architecture | None:
    """Returns the row of a wide network; None if there is none."""
    if not 1 < width <= WIDEST:
        return None
    if IMAGENET_UNITS.get(layers, ("",))[0] == "bottleneck":
        return Architecture(f"WideResNet{layers}_{width}", layers, "original", WIDE, width)
    depth = layers - 2
    if (depth - 2) % 6 or not 2 < depth < DEEPEST_WIDE or depth in IMAGENET_UNITS:
        return None
    return Architecture(f"WideResNet{layers}_{width}", depth, "full_preactivation", WIDE, width)


ARCHITECTURES = {
    **{f"resnet{d}": Architecture(f"ResNet{d}", d, "original", V1) for d in (*CIFAR_DEPTHS, 1202, *IMAGENET_UNITS)},
    **{
        f"preact_resnet{d}": Architecture(f"PreActResNet{d}", d, "full_preactivation", V2)
        for d in (*CIFAR_DEPTHS, *IMAGENET_UNITS)
    },
    **{f"wide_resnet{d}_{k}": row for d, k in (*WIDE_CIFAR, *WIDE_IMAGENET) if (row := _wide(d, k))},
}


def list_architectures(pattern: str = "*") -> list[str]:
    """Lists the networks that this package builds.

    Args:
        pattern: shell-style pattern, such as "preact_*".

    Returns:
        List of names; each is the name of a builder in lower case.

    Example:

    >>> list_architectures("*1001")
    ['resnet1001', 'preact_resnet1001']
    """
    return fnmatch.filter(ARCHITECTURES, pattern)


def find_architecture(name: str) -> Architecture:
    """Returns the row of an architecture of any valid depth, such as "resnet14" or "wide_resnet34_10".

    Args:
        name: one of `list_architectures()`; "resnet" or "preact_resnet" with another depth of 6n+2 or 9n+2, up to
            1,202; or "wide_resnet" with a depth of 6n+4 up to 100 (except 52) and a widening factor up to 32.

    Returns:
        `Architecture`; `keras_resv2.build` builds those that have no builder function.

    Raises:
        ValueError: if there is no such architecture; the message lists the closest names.

    Example:

    >>> find_architecture("resnet14").depth
    14
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    match = re.fullmatch(r"(preact_)?resnet([1-9]\d{0,3})", str(name))
    depth = int(match[2]) if match else 0
    if match and 2 < depth <= DEEPEST and any((depth - 2) % layers == 0 for layers in CIFAR_LAYERS_PER_N.values()):
        activation, source = ("full_preactivation", V2) if match[1] else ("original", V1)
        return Architecture("ResNet", depth, activation, source)
    match = re.fullmatch(r"wide_resnet([1-9]\d{0,3})_([1-9]\d?)", str(name))
    row = _wide(int(match[1]), int(match[2])) if match else None
    if row is not None:
        return row
    return ARCHITECTURES[check_choice("architecture", name, ARCHITECTURES)]


def name_architecture(depth: int, activation: str, width: int = 1) -> tuple[str, dict[str, int]]:
    """Returns the name of a network, the inverse of `find_architecture`.

    Args:
        depth, activation, width: of `ResNet`; the activation is "original" or "full_preactivation".

    Returns:
        ``(name, arguments)``: a name, which `find_architecture` may not know, and the arguments that it does not imply:
        the width, if no wide architecture has this depth and activation.

    Example:

    >>> name_architecture(26, "full_preactivation", 10), name_architecture(26, "original", 10)
    (('wide_resnet28_10', {}), ('resnet26', {'width': 10}))
    """
    for layers in (depth, depth + 2):
        row = _wide(layers, width)
        if row is not None and (row.depth, row.activation) == (depth, activation):
            return f"wide_resnet{layers}_{width}", {}
    prefix = "preact_" if activation == "full_preactivation" else ""
    return f"{prefix}resnet{depth}", {} if width == 1 else {"width": width}


def is_architecture(name: str) -> bool:
    """Returns whether `find_architecture` knows a name: a named network, or one of another valid depth and width.

    Example:

    >>> is_architecture("preact_resnet29"), is_architecture("resnet30"), is_architecture("resnet20-cifar10")
    (True, False, False)
    """
    try:
        find_architecture(name)
    except ValueError:
        return False
    return True
