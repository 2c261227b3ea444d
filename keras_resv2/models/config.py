"""Resolves the arguments of a network to its stages and units: depths, stems and defaults."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from keras_resv2.argument_checks import check_choice, check_count
from keras_resv2.data import DATASETS, Dataset
from keras_resv2.models.blocks import (
    ACTIVATED_SHORTCUTS,
    ACTIVATIONS,
    BRANCHES,
    PADDINGS,
    PROJECTIONS,
    STRIDE_IN,
    STRIDE_ON,
    UnitSpec,
)
from keras_resv2.models.depths import CIFAR_LAYERS_PER_N, IMAGENET_UNITS
from keras_resv2.models.preprocessing import Pixels, resolve_pixels
from keras_resv2.models.shortcuts import Conv1x1, Identity, NoShortcut, Shortcut, get_shortcut

IMAGENET_WIDTHS = (64, 128, 256, 512)
CIFAR_WIDTHS = (16, 32, 64)
CIFAR_BOTTLENECK_DEPTHS = (164, 1001)  # those that use bottlenecks in the paper


@dataclasses.dataclass(frozen=True)
class Stem:
    """The first layers, and the dataset that they are designed for.

    Attributes:
        kernel_size, strides: kernel size and stride of the first convolution.
        pool: whether a 3x3 max-pooling with stride 2 follows.
        made_for: key of `keras_resv2.data.DATASETS`, which gives the default image size, number of classes and pixel
            statistics.
        pool_zeros: whether the max-pooling pads with zeros, which exceed negative values.
        activate: whether BN and ReLU follow the convolution even in pre-activation networks.
    """

    kernel_size: int
    strides: int
    pool: bool
    made_for: str
    pool_zeros: bool = False
    activate: bool = False

    @property
    def total_stride(self) -> int:
        """Stride of the convolution and the pooling."""
        return self.strides * (2 if self.pool else 1)

    @property
    def dataset(self) -> Dataset:
        """`keras_resv2.data.Dataset`."""
        return DATASETS[self.made_for]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the dataset's images."""
        shape = self.dataset.image_shape
        assert shape is not None  # of a dataset that a stem is designed for
        return shape


STEMS = {
    "cifar": Stem(3, 1, False, "cifar10"),
    "cifar_pooled": Stem(3, 1, True, "cifar10"),
    "cifar_strided": Stem(3, 2, False, "cifar10"),
    "cifar_strided_pooled": Stem(3, 2, True, "cifar10"),
    "imagenet": Stem(7, 2, True, "imagenet2012"),
    "imagenet_unpooled": Stem(7, 2, False, "imagenet2012"),
    "imagenet_unstrided": Stem(7, 1, False, "imagenet2012"),
    "imagenet_unstrided_pooled": Stem(7, 1, True, "imagenet2012"),
    # ResNet50V2 of keras.applications; for ResNet-v1 the same as "imagenet".
    "imagenet_zero_padded": Stem(7, 2, True, "imagenet2012", pool_zeros=True),
    # PreResNet of Torch's ImageNet code and of pytorchcv; for ResNet-v1 the same as "imagenet".
    "imagenet_activated": Stem(7, 2, True, "imagenet2012", activate=True),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The units and widths of the stages; `resolve_layout` derives them from a depth.

    Attributes:
        branch: a key of `keras_resv2.models.blocks.BRANCHES`.
        units, widths: number of units and width of each stage.
        stem: a key of `STEMS`.
        stride_in: the unit of a stage that has the stride, one of `keras_resv2.models.blocks.STRIDE_IN`.
        pixels: mean and standard deviation for preprocessing; None for those of the stem's dataset.
        padding: a key of `keras_resv2.models.blocks.PADDINGS`.
        output_stride: pixels of the input per pixel of the last feature maps, along each side; None for all strides.
    """

    branch: str
    units: tuple[int, ...]
    widths: tuple[int, ...]
    stem: str
    stride_in: str = "first"
    pixels: Pixels | None = None
    padding: str = "torch"
    output_stride: int | None = None

    def strides(self, stage: int) -> list[int]:
        """Returns the stride of each unit of a stage (from 1). A last unit has the stride of the following stage."""
        plain = [1] * (self.units[stage - 1] - 1)
        if self.stride_in == "last":
            return [*plain, 1 if stage == len(self.units) else 2]
        return [1 if stage == 1 else 2, *plain]

    def geometry(self, stage: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Strides and dilations of the units of a stage (from 1).

        With an output stride, strides beyond it become dilations of the convolutions after them, which then see the
        same pixels (Chen et al. 2017, arXiv 1706.05587, section 3.1).

        Returns:
            ``(strides, dilations)``: lists with one entry per unit; an entry of `dilations` has those of the 3x3
            convolutions up to the one with the unit's stride, and of those after it.
        """
        strides = self.strides(stage)
        total = STEMS[self.stem].total_stride * 2 ** (stage - 1)
        dilation = total // (self.output_stride or total)
        if dilation <= 1:
            return strides, [(1, 1)] * len(strides)
        return [1] * len(strides), [(dilation // 2, dilation), *[(dilation, dilation)] * (len(strides) - 1)]


def resolve_layout(depth: Any, branch: str | None = None, stem: str | None = None) -> Layout:
    """Resolves the stages of a network of `depth` weighted layers.

    Args:
        depth: 18, 34, 50, 101, 152, 200 (four stages, ImageNet widths); else 6n+2 (basic) or 9n+2
            (bottleneck): three stages, CIFAR widths.
        branch: a key of `keras_resv2.models.blocks.BRANCHES`; None for the paper's choice.
        stem: a key of `STEMS`; None for the default of the depth.

    Returns:
        `Layout`.

    Raises:
        ValueError: if no network has this depth, or not with this branch.
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
            raise ValueError(f"ResNet-{depth} uses {own_branch} branches: omit branch.")
        return Layout(own_branch, counts, IMAGENET_WIDTHS, stem or "imagenet")
    wide = branch != "bottleneck" and depth % 6 == 4 and 4 < depth <= 100 and depth - 2 not in IMAGENET_UNITS
    if branch is None:
        fits_basic = depth > 2 and (depth - 2) % CIFAR_LAYERS_PER_N["basic"] == 0
        branch = "basic" if fits_basic and depth not in CIFAR_BOTTLENECK_DEPTHS else "bottleneck"
    n, remainder = divmod(depth - 2, CIFAR_LAYERS_PER_N[branch])
    if n < 1 or remainder:
        raise ValueError(
            f"depth={depth} is not valid with {branch} branches: choose 6n+2 (basic: 20, 32, 44, 56, 110, ...), "
            f"9n+2 (bottleneck: 164, 1001, ...) or one of {', '.join(map(str, IMAGENET_UNITS))}."
            + (f" WRN-{depth}-10 is keras_resv2.build('wide_resnet{depth}_10')." if wide else "")
        )
    return Layout(branch, (n,) * len(CIFAR_WIDTHS), CIFAR_WIDTHS, stem or "cifar")


def needed_arguments(own: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the arguments of a network that have no effect.

    Args:
        own: other arguments of `resolve_network`, which are kept: at least the depth.
        arguments: dictionary of arguments.

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
    depth: Any,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: Any = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    padding: str = "torch",
    output_stride: int | None = None,
    width: int = 1,
) -> tuple[Layout, UnitSpec]:
    """Resolves the structural arguments of `ResNet`, with defaults filled in.

    Args:
        depth, activation, shortcut, branch, projection, stride_on, stem, preprocessing, stride_in, conv_bias,
            activated_shortcuts, padding, output_stride, width: see `keras_resv2.ResNet`.

    Returns:
        ``(Layout, UnitSpec)``: equal for arguments that build the same network.

    Raises:
        ValueError: if an argument is not a valid choice, or the arguments contradict each other.

    Example:

    >>> resolve_network(20) == resolve_network(20, projection="A", stem="cifar")
    True
    """
    width = check_count("width", width)
    layout = resolve_layout(depth, branch, stem)
    check_choice("activation", activation, ACTIVATIONS)
    shortcut = get_shortcut(shortcut)
    cifar_stages = layout.widths == CIFAR_WIDTHS
    if isinstance(shortcut, Conv1x1):
        if projection not in (None, "B", "C"):
            raise ValueError(f"projection={projection!r} contradicts shortcut='conv1x1', which implies projection='C'.")
        shortcut, projection = Identity(), "C"
    if isinstance(shortcut, NoShortcut):
        if projection is not None:
            raise ValueError(f"projection={projection!r} does not apply to a plain network (shortcut='none').")
    elif projection == "none":
        raise ValueError(
            "projection='none': the stages differ in size, so shortcuts need a projection: choose 'A', 'B' or 'C'."
        )
    elif projection is not None:
        check_choice("projection", projection, PROJECTIONS)
    else:
        projection = "A" if cifar_stages and layout.branch == "basic" and width == 1 else "B"
    if stride_on is None:
        stride_on = "1x1" if cifar_stages else "3x3"
    check_choice("stride_on", stride_on, STRIDE_ON)
    check_choice("stride_in", stride_in, STRIDE_IN)
    check_choice("activated_shortcuts", activated_shortcuts, ACTIVATED_SHORTCUTS)
    check_choice("padding", padding, PADDINGS)
    # Arguments without effect, so that equal networks have equal specifications.
    row, branch_row = ACTIVATIONS[activation], BRANCHES[layout.branch].widened(width)
    if layout.branch == "basic":
        stride_on = "3x3"
    first_projects = projection == "C" or (projection == "B" and branch_row.expansion > 1)
    no_convolutions = activated_shortcuts == "projections" and projection in ("A", "A_average")
    if not row.before_branch or isinstance(shortcut, NoShortcut) or no_convolutions:
        activated_shortcuts = "none"
    elif first_projects and activated_shortcuts == "projections":
        activated_shortcuts = "first_and_projections"
    if "bn" in row.after_last_conv and (STEMS[layout.stem].activate or not row.before_branch):
        conv_bias = False
    pixels = STEMS[layout.stem].dataset.pixels if preprocessing is None else resolve_pixels(preprocessing)
    spec = UnitSpec(row, shortcut, branch_row, projection, stride_on, activated_shortcuts, conv_bias)
    layout = dataclasses.replace(layout, stride_in=stride_in, pixels=pixels, padding=padding)
    return dataclasses.replace(layout, output_stride=_check_output_stride(output_stride, layout, projection)), spec


def count_kernel_weights(layout: Layout, spec: UnitSpec) -> int:
    """Returns the number of weights in the convolutions of all branches, which are nearly all weights of a network.

    Example:

    >>> count_kernel_weights(*resolve_network(8))
    73728
    """
    total, channels = 0, layout.widths[0]
    rows = list(zip(spec.branch.kernel_sizes, spec.branch.width_factors, strict=True))
    for units, width in zip(layout.units, layout.widths, strict=True):
        for unit in range(units):
            inputs = channels if unit == 0 else width * spec.branch.expansion
            for size, factor in rows:
                total += size * size * inputs * width * factor
                inputs = width * factor
        channels = width * spec.branch.expansion
    return total


def _check_output_stride(output_stride, layout, projection):
    """Returns the output stride; None if all strides are used.

    Raises:
        ValueError: if the network does not have it, or would compute something else with dilations in place of strides.
    """
    if output_stride is not None:
        output_stride = check_count("output_stride", output_stride)
    first = STEMS[layout.stem].total_stride
    possible = [first * 2**stage for stage in range(len(layout.units))]
    if output_stride is None or output_stride == possible[-1]:
        return None
    if layout.stride_in == "last":
        raise ValueError(f"output_stride={output_stride!r} requires stride_in='first'.")
    if layout.padding != "torch":
        raise ValueError(f"output_stride={output_stride!r} requires padding='torch': others shift strided outputs.")
    if projection == "A_average":
        raise ValueError(f"output_stride={output_stride!r} requires another projection than 'A_average'.")
    return check_choice("output_stride", output_stride, possible)
