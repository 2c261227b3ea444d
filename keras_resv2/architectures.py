"""The table of named networks. It does not need Keras; `keras_resv2.builders` creates the builders from it."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import Any

from keras_resv2.argument_checks import check_choice


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A named network: the arguments of `ResNet`.

    Attributes:
        builder: name of the builder function, such as "PreActResNet20".
        depth: number of weighted layers.
        activation: "original" (v1) or "full_preactivation" (v2).
        source: paper that describes it.
    """

    builder: str
    depth: int
    activation: str
    source: str

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Returns the arguments of the network, as `keras_resv2.models.config.resolve_network` takes them.

        Args:
            **changes: arguments that a card or a user adds; `activation` replaces that of the row.

        Example:

        >>> ARCHITECTURES["resnet20"].arguments(projection="B")
        {'depth': 20, 'activation': 'original', 'projection': 'B'}
        """
        return {"depth": self.depth, "activation": self.activation, **changes}


V1 = "He et al. 2015, arXiv 1512.03385"
V2 = "He et al. 2016, arXiv 1603.05027"
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 164, 1001)
IMAGENET_DEPTHS = (18, 34, 50, 101, 152, 200)
LAYERS_PER_N = (6, 9)  # CIFAR networks: 6n+2 with basic units, 9n+2 with bottlenecks
DEEPEST = 1202  # a card from an untrusted source may name any depth

ARCHITECTURES = {
    **{f"resnet{d}": Architecture(f"ResNet{d}", d, "original", V1) for d in (*CIFAR_DEPTHS, 1202, *IMAGENET_DEPTHS)},
    **{
        f"preact_resnet{d}": Architecture(f"PreActResNet{d}", d, "full_preactivation", V2)
        for d in (*CIFAR_DEPTHS, *IMAGENET_DEPTHS)
    },
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
    """Returns the row of an architecture of any valid depth, such as "resnet14" or "preact_resnet38".

    Args:
        name: one of `list_architectures()`, or "resnet" or "preact_resnet" with another depth of 6n+2 or 9n+2,
            up to 1,202.

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
    if match and 2 < depth <= DEEPEST and any((depth - 2) % layers == 0 for layers in LAYERS_PER_N):
        activation, source = ("full_preactivation", V2) if match[1] else ("original", V1)
        return Architecture("ResNet", depth, activation, source)
    return ARCHITECTURES[check_choice("architecture", name, ARCHITECTURES)]


def is_architecture(name: str) -> bool:
    """Returns whether `find_architecture` knows a name: a named network, or one of another depth of 6n+2 or 9n+2.

    Example:

    >>> is_architecture("preact_resnet29"), is_architecture("resnet30"), is_architecture("resnet20-cifar10")
    (True, False, False)
    """
    try:
        find_architecture(name)
    except ValueError:
        return False
    return True
