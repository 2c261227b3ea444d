"""The residual unit of He et al. 2016 (arXiv 1603.05027), as two tables.

A unit computes ``y = f(h(x) + F(x))`` (eq. 1 and 2 of the paper): F is the branch, h the shortcut and f the activation
after the addition. `ACTIVATIONS` is the paper's Fig. 4, `SHORTCUTS` (in `keras_resv2.models.shortcuts`) its Fig. 2, and
`residual_unit` combines a row of each.

Layer names are a contract that weight files, model surgery and converters rely on; they are documented in
`keras_resv2.models.network`.
"""

import dataclasses

from keras_resv2.models.shortcuts import NoShortcut, Shortcut


@dataclasses.dataclass(frozen=True)
class Activation:
    """One row of Fig. 4: the positions of BN and ReLU in a unit."""

    before_branch: tuple[str, ...]
    after_last_conv: tuple[str, ...]
    after_addition: tuple[str, ...]


# In all five rows, every convolution of a branch but the last is followed by BN and ReLU.
ACTIVATIONS = {
    #                                     before the branch  after its last conv  after the addition
    "original":                Activation((),                ("bn",),             ("relu",)),
    "bn_after_addition":       Activation((),                (),                  ("bn", "relu")),
    "relu_before_addition":    Activation((),                ("bn", "relu"),      ()),
    "relu_only_preactivation": Activation(("relu",),         ("bn",),             ()),
    "full_preactivation":      Activation(("bn", "relu"),    (),                  ()),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Branch:
    """The kernel size of each convolution, and its filters as a multiple of the stage's width."""

    kernel_sizes: tuple[int, ...]
    width_factors: tuple[int, ...]

    def widened(self, width: int) -> "Branch":
        """Returns the branch of a wide network, with `width` times as many channels in its 3x3 convolutions.

        This widens the outputs of basic branches, but only the inside of bottlenecks (Zagoruyko & Komodakis 2016,
        arXiv 1605.07146, Table 1 and section 3.5).

        Example:

        >>> BRANCHES["bottleneck"].widened(2).width_factors
        (2, 2, 4)
        """
        *inner, last = self.width_factors
        outer = last if self.kernel_sizes[-1] == 1 else last * width
        return dataclasses.replace(self, width_factors=(*(factor * width for factor in inner), outer))

    @property
    def expansion(self) -> int:
        """Output channels of the branch as a multiple of the stage's width."""
        return self.width_factors[-1]


BRANCHES = {
    "basic": Branch(kernel_sizes=(3, 3), width_factors=(1, 1)),
    "bottleneck": Branch(kernel_sizes=(1, 3, 1), width_factors=(1, 1, 4)),
}

# The shortcut where a unit changes the size (He et al. 2015, section 3.3).
PROJECTIONS = {
    "A": "subsampling, and zeros in the new channels: no parameters",
    "A_average": "the same with 2x2 average pooling instead of subsampling: other implementations",
    "B": "1x1 convolution where the size changes, identity elsewhere",
    "C": "1x1 convolution in every unit",
}

# The convolution of a bottleneck that has the stride.
STRIDE_ON = {"1x1": 0, "3x3": 1}

# The unit of a stage that has the stride. In the last unit the shortcut subsamples with projections A and B, averages
# with A_average, and is a strided convolution with C.
STRIDE_IN = ("first", "last")

# Zero padding of strided convolutions of 3x3 or 7x7.
PADDINGS = {
    "torch": "the same on all sides: the papers' code and PyTorch",
    "tensorflow": "more at the end than at the beginning if the side is even: padding='same' of Keras",
}

# The shortcuts that start from the activation before the branch, if there is one.
ACTIVATED_SHORTCUTS = {
    "first_and_projections": "the first unit's, and 1x1 convolutions: the paper's appendix and the authors' code",
    "projections": "1x1 convolutions: timm, and many ports of Torch code",
    "none": "none: all start from the output of the unit before",
}


@dataclasses.dataclass(frozen=True)
class UnitSpec:
    """The settings that all units of a network share.

    Attributes:
        activation: a row of `ACTIVATIONS`.
        shortcut: a `Shortcut`.
        branch: a row of `BRANCHES`.
        projection: a key of `PROJECTIONS`; None for the plain network.
        stride_on: a key of `STRIDE_ON`; only used by bottleneck branches.
        activated_shortcuts: a key of `ACTIVATED_SHORTCUTS`.
        conv_bias: whether convolutions that are not followed by BN have a bias.
    """

    activation: Activation
    shortcut: Shortcut
    branch: Branch
    projection: str | None
    stride_on: str
    activated_shortcuts: str = "first_and_projections"
    conv_bias: bool = False

    def projects(self, changes_width: bool) -> bool:
        """Returns whether the shortcut of a unit is a 1x1 convolution."""
        return self.projection == "C" or (changes_width and self.projection == "B")

    def activates_shortcut(self, first: bool, projects: bool) -> bool:
        """Returns whether the shortcut of a unit starts from the activation before the branch."""
        if self.activated_shortcuts == "first_and_projections":
            return first or projects
        return projects and self.activated_shortcuts == "projections"


def residual_unit(x, width, strides, spec, layers, name, first=False, dilation=(1, 1)):
    """Builds one unit of a residual network: eq. 1 and 2.

    Args:
        x: Keras tensor, ``(batch, height, width, channels)``.
        width: number of filters of the branch's inner convolutions.
        strides: 2 if the unit halves height and width, else 1.
        spec: `UnitSpec`.
        layers: `LayerFactory`.
        name: prefix of all layer names, such as "stage2_unit3".
        first: whether this is the network's first unit, whose shortcut also starts from the activation before the
            branch (the paper's appendix).
        dilation: ``(before, after)``: dilations of the 3x3 convolutions up to the one with the unit's stride, and of
            those after it.

    Returns:
        Keras tensor, ``(batch, height / strides, width / strides, width * expansion)``.
    """
    activated = layers.activate(x, spec.activation.before_branch, f"{name}_preact")
    y = _branch(activated, width, strides, spec, layers, name, dilation)
    if not isinstance(spec.shortcut, NoShortcut):
        filters = width * spec.branch.expansion
        projects = spec.projects(x.shape[layers.channel_axis] != filters)
        source = activated if spec.activates_shortcut(first, projects) else x
        shortcut = _project(source, filters, strides, projects, spec, layers, f"{name}_shortcut")
        shortcut, y = spec.shortcut(shortcut, y, source, strides, layers, name)
        y = layers.add(shortcut, y, f"{name}_add")
    return layers.activate(y, spec.activation.after_addition, f"{name}_postact")


def _branch(x, width, strides, spec, layers, name, dilation):
    """F(x): the convolutions, each but the last followed by BN and ReLU."""
    last = len(spec.branch.kernel_sizes)
    strided = STRIDE_ON[spec.stride_on] if last == 3 else 0
    for i, (kernel_size, factor) in enumerate(zip(spec.branch.kernel_sizes, spec.branch.width_factors, strict=True)):
        after = spec.activation.after_last_conv if i + 1 == last else ("bn", "relu")
        bias = spec.conv_bias and "bn" not in after
        stride, rate = strides if i == strided else 1, dilation[i > strided] if kernel_size > 1 else 1
        x = layers.conv(x, width * factor, kernel_size, stride, f"{name}_conv{i + 1}", bias, rate)
        for kind in after:
            x = layers.batch_norm(x, f"{name}_bn{i + 1}") if kind == "bn" else layers.relu(x, f"{name}_relu{i + 1}")
    return x


def _project(x, filters, strides, projects, spec, layers, name):
    """h(x) before scaling, gates and dropout: x in the shape of the branch's output."""
    if projects:
        normalized = "bn" in spec.activation.after_last_conv
        x = layers.conv(x, filters, 1, strides, f"{name}_conv", bias=spec.conv_bias and not normalized)
        # Normalized if the branch's last convolution is, so that both terms have the same form.
        return layers.batch_norm(x, f"{name}_bn") if normalized else x
    if strides > 1 and spec.projection == "A_average":
        x = layers.average_pool(x, strides, f"{name}_average")
    elif strides > 1:
        x = layers.subsample(x, strides, f"{name}_subsample")
    if x.shape[layers.channel_axis] != filters:
        x = layers.pad_channels(x, filters, f"{name}_pad")
    return x
