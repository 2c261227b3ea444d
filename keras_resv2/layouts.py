"""From the arguments of a network to its stages and units: depths, stems, and what is the default of what."""

import dataclasses

from keras_resv2.choices import check_choice
from keras_resv2.shortcuts import Conv1x1, NoShortcut, get_shortcut
from keras_resv2.units import ACTIVATIONS, BRANCHES, PROJECTIONS, STRIDE_ON, UnitSpec

# Units per stage of He et al. 2015, Table 1, and ResNet-200 of He et al. 2016.
IMAGENET_UNITS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
IMAGENET_WIDTHS = (64, 128, 256, 512)

# CIFAR networks have three stages of n units: depth = 6n+2 (basic) or 9n+2 (bottleneck).
CIFAR_LAYERS_PER_N = {"basic": 6, "bottleneck": 9}
CIFAR_WIDTHS = (16, 32, 64)
CIFAR_BOTTLENECK_DEPTHS = (164, 1001)  # those that the paper makes of bottlenecks


@dataclasses.dataclass(frozen=True)
class Stem:
    """First layers, and what goes with the pictures that they are made for.

    Attributes:
        kernel_size, strides: of the first convolution.
        pool: whether a 3x3 max-pooling with stride 2 follows.
        size: height and width of the pictures, pixels.
        classes: of the dataset.
        mean, std: of the dataset's pixels per channel (red, green, blue), on the 0-255 scale.
    """

    kernel_size: int
    strides: int
    pool: bool
    size: int
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


STEMS = {
    "cifar": Stem(3, 1, False, 32, 10, (125.307, 122.95, 113.865), (62.993, 62.089, 66.705)),
    "imagenet": Stem(7, 2, True, 224, 1000, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Units and widths of the stages; `resolve_layout` finds it from a depth."""

    branch: str
    units: tuple[int, ...]
    widths: tuple[int, ...]
    stem: str


def resolve_layout(depth, branch=None, stem=None):
    """The stages of a network of `depth` weighted layers.

    Args:
        depth: 18, 34, 50, 101, 152, 200 (four stages, ImageNet widths); else 6n+2 (basic) or 9n+2
            (bottleneck): three stages, CIFAR widths.
        branch: a key of `keras_resv2.BRANCHES`; None for the paper's.
        stem: a key of `STEMS`; None for the one of the depth's family.

    Returns:
        `Layout`.

    Raises:
        ValueError: no network has that depth, or not with that branch.
    """
    if branch is not None:
        check_choice("branch", branch, BRANCHES)
    if stem is not None:
        check_choice("stem", stem, STEMS)
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(f"depth={depth!r} must be a whole number, for example 20, 50, 110 or 164.")
    if depth in IMAGENET_UNITS:
        own_branch, counts = IMAGENET_UNITS[depth]
        if branch not in (None, own_branch):
            raise ValueError(f"ResNet-{depth} is made of {own_branch} branches: leave branch out.")
        return Layout(own_branch, counts, IMAGENET_WIDTHS, stem or "imagenet")
    if branch is None:
        fits_basic = depth > 2 and (depth - 2) % CIFAR_LAYERS_PER_N["basic"] == 0
        branch = "basic" if fits_basic and depth not in CIFAR_BOTTLENECK_DEPTHS else "bottleneck"
    n, remainder = divmod(depth - 2, CIFAR_LAYERS_PER_N[branch])
    if n < 1 or remainder:
        raise ValueError(
            f"depth={depth} fits no network with {branch} branches: choose 6n+2 (basic: 20, 32, 44, 56, 110, ...), "
            f"9n+2 (bottleneck: 164, 1001, ...) or one of {', '.join(map(str, IMAGENET_UNITS))}."
        )
    return Layout(branch, (n,) * len(CIFAR_WIDTHS), CIFAR_WIDTHS, stem or "cifar")


def resolve_network(
    depth, activation="original", shortcut="identity", branch=None, projection=None, stride_on=None, stem=None
):
    """What the structural arguments of `ResNet` come to, defaults filled in.

    Args:
        depth, activation, shortcut, branch, projection, stride_on, stem: as `keras_resv2.ResNet`.

    Returns:
        ``(Layout, UnitSpec)``: equal for calls that make the same network.

    Raises:
        ValueError: an argument is none of the choices, or the choices make no network.

    Example:

    >>> resolve_network(20) == resolve_network(20, projection="A", stem="cifar")
    True
    """
    layout = resolve_layout(depth, branch, stem)
    check_choice("activation", activation, ACTIVATIONS)
    shortcut = get_shortcut(shortcut)
    cifar_stages = layout.widths == CIFAR_WIDTHS
    if isinstance(shortcut, NoShortcut):
        if projection is not None:
            raise ValueError(f"projection={projection!r} has no place in a plain network (shortcut='none').")
    elif projection == "none":
        raise ValueError(
            "projection='none': the stages differ in size, so shortcuts need a projection: choose 'A', 'B' or 'C'."
        )
    elif projection is not None:
        check_choice("projection", projection, PROJECTIONS)
    elif isinstance(shortcut, Conv1x1):
        projection = "C"
    else:
        projection = "A" if cifar_stages and layout.branch == "basic" else "B"
    if stride_on is None:
        stride_on = "1x1" if cifar_stages else "3x3"
    check_choice("stride_on", stride_on, STRIDE_ON)
    return layout, UnitSpec(ACTIVATIONS[activation], shortcut, BRANCHES[layout.branch], projection, stride_on)
