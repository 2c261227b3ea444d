"""From the arguments of a network to its stages and units: depths, stems, and what is the default of what."""

import dataclasses
import math
import numbers

from keras_resv2.choices import check_choice
from keras_resv2.data import DATASETS
from keras_resv2.shortcuts import Conv1x1, NoShortcut, get_shortcut
from keras_resv2.units import (
    ACTIVATED_SHORTCUTS,
    ACTIVATIONS,
    BRANCHES,
    PROJECTIONS,
    STRIDE_IN,
    STRIDE_ON,
    UnitSpec,
)

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
    """First layers, and the dataset that they are made for.

    Attributes:
        kernel_size, strides: of the first convolution.
        pool: whether a 3x3 max-pooling with stride 2 follows.
        made_for: key of `keras_resv2.data.DATASETS`: image size, number of classes and pixel statistics of a
            network of which nothing else is said.
        pool_zeros: whether the max-pooling sees zeros around the image, which are above negative values.
        activate: whether BN and ReLU follow the convolution in pre-activation networks too.
    """

    kernel_size: int
    strides: int
    pool: bool
    made_for: str
    pool_zeros: bool = False
    activate: bool = False

    @property
    def dataset(self):
        """`keras_resv2.data.Dataset`."""
        return DATASETS[self.made_for]


STEMS = {
    "cifar": Stem(3, 1, False, "cifar10"),
    "cifar_pooled": Stem(3, 1, True, "cifar10"),
    "cifar_strided": Stem(3, 2, False, "cifar10"),
    "cifar_strided_pooled": Stem(3, 2, True, "cifar10"),
    "imagenet": Stem(7, 2, True, "imagenet2012"),
    "imagenet_unpooled": Stem(7, 2, False, "imagenet2012"),
    "imagenet_unstrided": Stem(7, 1, False, "imagenet2012"),
    "imagenet_unstrided_pooled": Stem(7, 1, True, "imagenet2012"),
    # ResNet50V2 of keras.applications; of ResNet-v1 the same as "imagenet".
    "imagenet_zero_padded": Stem(7, 2, True, "imagenet2012", pool_zeros=True),
    # PreResNet of Torch's ImageNet code and of pytorchcv; of ResNet-v1 the same as "imagenet".
    "imagenet_activated": Stem(7, 2, True, "imagenet2012", activate=True),
}

# Mean and standard deviation of pixels per channel (red, green, blue), on the 0-255 scale, by the names that
# keras.applications gives them. The datasets of the registry have theirs by their own names.
PREPROCESSING = {
    "torch": DATASETS["imagenet2012"].pixels,
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Units and widths of the stages; `resolve_layout` finds it from a depth.

    Attributes:
        branch: a key of `keras_resv2.units.BRANCHES`.
        units, widths: of each stage.
        stem: a key of `STEMS`.
        stride_in: the unit of a stage that takes its stride, one of `keras_resv2.units.STRIDE_IN`.
        pixels: mean and standard deviation that preprocessing takes out; None for those of the stem's dataset.
    """

    branch: str
    units: tuple[int, ...]
    widths: tuple[int, ...]
    stem: str
    stride_in: str = "first"
    pixels: tuple | None = None

    def strides(self, stage):
        """Stride of each unit of a stage (from 1). In the last unit, it is that of the stage that follows."""
        plain = [1] * (self.units[stage - 1] - 1)
        if self.stride_in == "last":
            return [*plain, 1 if stage == len(self.units) else 2]
        return [1 if stage == 1 else 2, *plain]


def resolve_layout(depth, branch=None, stem=None):
    """The stages of a network of `depth` weighted layers.

    Args:
        depth: 18, 34, 50, 101, 152, 200 (four stages, ImageNet widths); else 6n+2 (basic) or 9n+2
            (bottleneck): three stages, CIFAR widths.
        branch: a key of `keras_resv2.units.BRANCHES`; None for the paper's.
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
    if isinstance(depth, bool) or not isinstance(depth, numbers.Integral):
        raise ValueError(f"depth={depth!r} must be a whole number, for example 20, 50, 110 or 164.")
    depth = int(depth)
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


def resolve_pixels(preprocessing):
    """Mean and standard deviation of pixels that a name, or a pair of them, stands for.

    Args:
        preprocessing: a dataset of the registry, as "cifar100"; or a key of `PREPROCESSING`; or
            ``(mean, std)``, each of three numbers for red, green and blue on the 0-255 scale.

    Returns:
        ``(mean, std)``, each a tuple of three numbers.

    Raises:
        ValueError: it is neither.

    Example:

    >>> resolve_pixels("tf")[0]
    (127.5, 127.5, 127.5)
    """
    named = {name: row.pixels for name, row in DATASETS.items() if row.pixels} | PREPROCESSING
    if isinstance(preprocessing, str):
        return named[check_choice("preprocessing", preprocessing, named)]
    try:
        mean, std = (tuple(float(value) for value in values) for values in preprocessing)
    except (TypeError, ValueError):
        mean = std = ()
    if len(mean) == len(std) == 3 and min(std) > 0 and all(map(math.isfinite, (*mean, *std))):
        if max(map(abs, mean)) <= 1 and max(std) < 1:
            raise ValueError(
                f"preprocessing={preprocessing!r} is for pixels from 0 to 1, and pixels here go from 0 to 255: "
                "multiply all six numbers by 255."
            )
        return mean, std
    raise ValueError(
        f"preprocessing={preprocessing!r} must be one of {', '.join(map(repr, named))}, or a pair (mean, std), "
        "each three numbers on the 0-255 scale, std above 0."
    )


def needed_arguments(own, arguments):
    """Arguments of a network without those that change nothing.

    Args:
        own: other arguments of `resolve_network`, which stay: the depth at least.
        arguments: dictionary of its arguments.

    Returns:
        Dictionary.

    Example:

    >>> needed_arguments({"depth": 20}, {"projection": "A", "stride_in": "last"})
    {'stride_in': 'last'}
    """
    needed = dict(arguments)
    for name in arguments:
        rest = {key: value for key, value in needed.items() if key != name}
        if resolve_network(**own, **rest) == resolve_network(**own, **needed):
            needed = rest
    return needed


def resolve_network(
    depth,
    activation="original",
    shortcut="identity",
    branch=None,
    projection=None,
    stride_on=None,
    stem=None,
    preprocessing=None,
    stride_in="first",
    conv_bias=False,
    activated_shortcuts="first_and_projections",
):
    """What the structural arguments of `ResNet` come to, defaults filled in.

    Args:
        depth, activation, shortcut, branch, projection, stride_on, stem, preprocessing, stride_in,
            conv_bias, activated_shortcuts: as `keras_resv2.ResNet`.

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
    check_choice("stride_in", stride_in, STRIDE_IN)
    check_choice("activated_shortcuts", activated_shortcuts, ACTIVATED_SHORTCUTS)
    pixels = STEMS[layout.stem].dataset.pixels if preprocessing is None else resolve_pixels(preprocessing)
    branch = BRANCHES[layout.branch]
    spec = UnitSpec(ACTIVATIONS[activation], shortcut, branch, projection, stride_on, activated_shortcuts, conv_bias)
    return dataclasses.replace(layout, stride_in=stride_in, pixels=pixels), spec
