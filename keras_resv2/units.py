"""The residual unit of He et al. 2016 (arXiv 1603.05027): its two tables as tables.

A unit computes ``y = f(h(x) + F(x))`` (eq. 1 and 2 of the paper): F is the branch, h the shortcut, f
the activation after the addition. `ACTIVATIONS` is the paper's Fig. 4, `SHORTCUTS` its Fig. 2, and
`residual_unit` puts a row of each together.

Layer names are a contract (weight files, surgery and converters rely on them); they are documented
in `keras_resv2.resnet`.
"""

import dataclasses
import math
from typing import ClassVar

import keras

from keras_resv2.choices import check_choice


@dataclasses.dataclass(frozen=True)
class Activation:
    """One row of Fig. 4: which of BN and ReLU stand where in a unit."""

    before_branch: tuple[str, ...]
    after_last_conv: tuple[str, ...]
    after_addition: tuple[str, ...]


# Inside a branch every convolution but the last is followed by BN and ReLU, in all five rows.
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
    """Kernel size of each convolution, and its filters as a multiple of the stage's width."""

    kernel_sizes: tuple[int, ...]
    width_factors: tuple[int, ...]

    @property
    def expansion(self):
        """Channels that leave the branch, per unit of the stage's width."""
        return self.width_factors[-1]


BRANCHES = {
    "basic": Branch(kernel_sizes=(3, 3), width_factors=(1, 1)),
    "bottleneck": Branch(kernel_sizes=(1, 3, 1), width_factors=(1, 1, 4)),
}

# What the shortcut does where a unit changes size (He et al. 2015, section 3.3).
PROJECTIONS = {
    "A": "subsample, and fill the new channels with zeros: no parameters",
    "B": "1x1 convolution where the size changes, identity elsewhere",
    "C": "1x1 convolution in every unit",
}

# Which convolution of a bottleneck takes the stride.
STRIDE_ON = {"1x1": 0, "3x3": 1}


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """One row of Fig. 2: what x goes through, and what the branch is multiplied by.

    Subclasses are plain values: they compare equal by their parameters, and ``str`` gives the form
    that `get_shortcut` reads back.

    Example:

    >>> str(ExclusiveGating(bias=-7))
    'exclusive_gating(bias=-7)'
    """

    name: ClassVar[str]

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        """Returns the two terms of the addition.

        Args:
            shortcut: x as the branch's output is shaped, ``(batch, height, width, filters)``.
            branch: F(x), same shape.
            gate_input: x before any change of size, for gates that read it.
            strides: stride of the unit, for gates.
            layers: `Layers` that make Keras layers.
            name: prefix of the layers' names.
        """
        raise NotImplementedError

    def __str__(self):
        parameters = ", ".join(f"{k}={v!r}" for k, v in dataclasses.asdict(self).items())
        return f"{self.name}({parameters})" if parameters else self.name


@dataclasses.dataclass(frozen=True)
class Identity(Shortcut):
    """Fig. 2 (a): x, untouched."""

    name = "identity"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return shortcut, branch


@dataclasses.dataclass(frozen=True)
class ConstantScaling(Shortcut):
    """Fig. 2 (b): the two paths times constants.

    Args:
        shortcut_scale: factor of x, lambda of eq. 6.
        branch_scale: factor of the branch; Table 1 has rows with 0.5 and with 1.
    """

    shortcut_scale: float = 0.5
    branch_scale: float = 0.5
    name = "constant_scaling"

    def __post_init__(self):
        _check_number("shortcut_scale", self.shortcut_scale)
        _check_number("branch_scale", self.branch_scale)

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        shortcut = layers.rescaling(shortcut, self.shortcut_scale, f"{name}_shortcut_scale")
        branch = layers.rescaling(branch, self.branch_scale, f"{name}_branch_scale")
        return shortcut, branch


@dataclasses.dataclass(frozen=True)
class ExclusiveGating(Shortcut):
    """Fig. 2 (c): ``(1 - g(x)) x + g(x) F(x)``, as highway networks.

    Args:
        bias: initial value of the gate's bias b in ``g(x) = sigmoid(conv1x1(x) + b)``; the paper
            tries 0 to -10.
    """

    bias: float = -6.0
    name = "exclusive_gating"

    def __post_init__(self):
        _check_number("bias", self.bias)

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        gate = layers.gate(gate_input, branch, strides, self.bias, f"{name}_gate")
        carried = layers.rescaling(gate, -1.0, f"{name}_gate_carry", offset=1.0)
        shortcut = layers.multiply(carried, shortcut, f"{name}_shortcut_gated")
        return shortcut, layers.multiply(gate, branch, f"{name}_branch_gated")


@dataclasses.dataclass(frozen=True)
class ShortcutOnlyGating(Shortcut):
    """Fig. 2 (d): ``(1 - g(x)) x + F(x)``: the gate acts on the shortcut alone.

    Args:
        bias: initial value of the gate's bias, as in `ExclusiveGating`.
    """

    bias: float = -6.0
    name = "shortcut_only_gating"

    def __post_init__(self):
        _check_number("bias", self.bias)

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        gate = layers.gate(gate_input, branch, strides, self.bias, f"{name}_gate")
        carried = layers.rescaling(gate, -1.0, f"{name}_gate_carry", offset=1.0)
        return layers.multiply(carried, shortcut, f"{name}_shortcut_gated"), branch


@dataclasses.dataclass(frozen=True)
class Conv1x1(Shortcut):
    """Fig. 2 (e): a 1x1 convolution in every unit, option C of He et al. 2015."""

    name = "conv1x1"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return shortcut, branch  # residual_unit has made the convolution


@dataclasses.dataclass(frozen=True)
class DropoutShortcut(Shortcut):
    """Fig. 2 (f): dropout of the shortcut, during training.

    Keras keeps the expectation by scaling what is kept by ``1 / (1 - rate)``.

    Args:
        rate: fraction that is dropped, at least 0 and below 1.
    """

    rate: float = 0.5
    name = "dropout"

    def __post_init__(self):
        _check_number("rate", self.rate)
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout rate {self.rate} must be at least 0 and below 1.")

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return layers.dropout(shortcut, self.rate, f"{name}_shortcut_dropout"), branch


@dataclasses.dataclass(frozen=True)
class NoShortcut(Shortcut):
    """The plain network: the branch alone, nothing is added."""

    name = "none"


SHORTCUTS = {
    #   name                    x goes through     the branch is times
    "identity":             Identity,            # x              1
    "constant_scaling":     ConstantScaling,     # 0.5 x          0.5 (or 1)
    "exclusive_gating":     ExclusiveGating,     # (1 - g(x)) x   g(x)
    "shortcut_only_gating": ShortcutOnlyGating,  # (1 - g(x)) x   1
    "conv1x1":              Conv1x1,             # 1x1 conv       1
    "dropout":              DropoutShortcut,     # dropout 0.5    1
    "none":                 NoShortcut,          # nothing        1
}  # fmt: skip


def get_shortcut(shortcut):
    """The `Shortcut` that a name, or a name with parameters, stands for.

    Args:
        shortcut: a `Shortcut`, a key of `SHORTCUTS`, or the same with parameters as in
            ``"exclusive_gating(bias=-7)"``.

    Returns:
        A `Shortcut`.

    Raises:
        ValueError: the name, a parameter's name or its value is not one of those there are.

    Example:

    >>> get_shortcut("constant_scaling(branch_scale=1)")
    ConstantScaling(shortcut_scale=0.5, branch_scale=1.0)
    """
    if isinstance(shortcut, Shortcut):
        return shortcut
    if not isinstance(shortcut, str):
        raise ValueError(f"shortcut={shortcut!r} must be one of {', '.join(SHORTCUTS)}, or a Shortcut object.")
    name, _, rest = shortcut.partition("(")
    kind = SHORTCUTS[check_choice("shortcut", name.strip(), SHORTCUTS)]
    known = [field.name for field in dataclasses.fields(kind)]
    parameters = {}
    for item in filter(None, (part.strip() for part in rest.rstrip(") ").split(","))):
        key, _, value = item.partition("=")
        if key.strip() not in known:
            raise ValueError(
                f"shortcut={shortcut!r}: {name} takes {', '.join(known) or 'no parameters'}, not {key.strip()!r}."
            )
        try:
            parameters[key.strip()] = float(value)
        except ValueError:
            raise ValueError(f"shortcut={shortcut!r}: {key.strip()} must be a number, not {value!r}.") from None
    return kind(**parameters)


def _check_number(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a finite number.")


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the Keras layers of one network, all with the same dtype policy and data format.

    Attributes:
        dtype: a Keras dtype policy or its name; None for the global policy.
        data_format: "channels_last" or "channels_first".
    """

    dtype: object
    data_format: str

    @property
    def channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def conv(self, x, filters, kernel_size, strides, name):
        """Convolution without bias, padded on all sides alike (as Torch and the papers' code do)."""
        padding = "same"
        if strides > 1 and kernel_size > 1:
            # TensorFlow's "same" pads a strided convolution more at the end than at the start.
            x = self.zero_padding(x, kernel_size // 2, f"{name}_pad")
            padding = "valid"
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            # He et al. 2015b, eq. 14, with the fan counted at the output as the papers' code has it.
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )(x)

    def activate(self, x, kinds, name):
        """`x` through the BN and ReLU that `kinds` lists, named `<name>_bn` and `<name>_relu`."""
        for kind in kinds:
            x = self.batch_norm(x, f"{name}_bn") if kind == "bn" else self.relu(x, f"{name}_relu")
        return x

    def batch_norm(self, x, name):
        return keras.layers.BatchNormalization(
            axis=self.channel_axis, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name=name
        )(x)

    def relu(self, x, name):
        return keras.layers.Activation("relu", dtype=self.dtype, name=name)(x)

    def zero_padding(self, x, pixels, name):
        return keras.layers.ZeroPadding2D(pixels, data_format=self.data_format, dtype=self.dtype, name=name)(x)

    def subsample(self, x, strides, name):
        """Every `strides`-th pixel, from the first."""
        return keras.layers.MaxPooling2D(1, strides=strides, data_format=self.data_format, dtype=self.dtype, name=name)(
            x
        )

    def pad_channels(self, x, filters, name):
        """Zero channels, half before and half after those of `x`, to `filters` in all."""
        missing = filters - x.shape[self.channel_axis]
        channels, none = (missing // 2, missing - missing // 2), (0, 0)
        # ZeroPadding2D pads two neighbouring axes. Told the other data format, it takes width and
        # channels of a channels_last tensor, or channels and height of a channels_first one.
        last = self.data_format == "channels_last"
        return keras.layers.ZeroPadding2D(
            (none, channels) if last else (channels, none),
            data_format="channels_first" if last else "channels_last",
            dtype=self.dtype,
            name=name,
        )(x)

    def rescaling(self, x, scale, name, offset=0.0):
        return keras.layers.Rescaling(scale, offset, dtype=self.dtype, name=name)(x)

    def multiply(self, a, b, name):
        return keras.layers.Multiply(dtype=self.dtype, name=name)([a, b])

    def dropout(self, x, rate, name):
        return keras.layers.Dropout(rate, dtype=self.dtype, name=name)(x)

    def gate(self, x, like, strides, bias, name):
        """``sigmoid(conv1x1(x) + b)`` (section 3.1), with as many channels as `like` has."""
        return keras.layers.Conv2D(
            like.shape[self.channel_axis],
            1,
            strides=strides,
            activation="sigmoid",
            kernel_initializer="he_normal",
            bias_initializer=keras.initializers.Constant(bias),
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}_conv",
        )(x)

    def add(self, a, b, name):
        return keras.layers.Add(dtype=self.dtype, name=name)([a, b])


@dataclasses.dataclass(frozen=True)
class UnitSpec:
    """What all units of a network share.

    Attributes:
        activation: a row of `ACTIVATIONS`.
        shortcut: a `Shortcut`.
        branch: a row of `BRANCHES`.
        projection: a key of `PROJECTIONS`; None for the plain network.
        stride_on: a key of `STRIDE_ON`; bottleneck branches only.
    """

    activation: Activation
    shortcut: Shortcut
    branch: Branch
    projection: str | None
    stride_on: str

    def projects(self, changes_size):
        """Whether the shortcut of a unit is a 1x1 convolution."""
        if changes_size:
            return self.projection in ("B", "C")
        return self.projection == "C" or isinstance(self.shortcut, Conv1x1)


def residual_unit(x, width, strides, spec, layers, name, share_activation=False):
    """One unit of a residual network: eq. 1 and 2.

    Args:
        x: Keras tensor, ``(batch, height, width, channels)``.
        width: filters of the branch's inner convolutions.
        strides: 2 where the unit halves the picture, else 1.
        spec: `UnitSpec`.
        layers: `Layers`.
        name: prefix of all layer names, "stage2_unit3".
        share_activation: the shortcut too starts from the activation before the branch: the first
            unit of pre-activation networks (the paper's appendix).

    Returns:
        Keras tensor, ``(batch, height / strides, width / strides, width * expansion)``.
    """
    activated = layers.activate(x, spec.activation.before_branch, f"{name}_preact")
    y = _branch(activated, width, strides, spec, layers, name)
    if not isinstance(spec.shortcut, NoShortcut):
        filters = width * spec.branch.expansion
        changes_size = strides > 1 or x.shape[layers.channel_axis] != filters
        # A projecting convolution reads the shared activation, as in the authors' code.
        source = activated if share_activation or spec.projects(changes_size) else x
        shortcut = _project(source, filters, strides, changes_size, spec, layers, f"{name}_shortcut")
        shortcut, y = spec.shortcut(shortcut, y, source, strides, layers, name)
        y = layers.add(shortcut, y, f"{name}_add")
    return layers.activate(y, spec.activation.after_addition, f"{name}_postact")


def _branch(x, width, strides, spec, layers, name):
    """F(x): the convolutions, each but the last followed by BN and ReLU."""
    last = len(spec.branch.kernel_sizes)
    strided = STRIDE_ON[spec.stride_on] if last == 3 else 0
    for i, (kernel_size, factor) in enumerate(zip(spec.branch.kernel_sizes, spec.branch.width_factors, strict=True)):
        x = layers.conv(x, width * factor, kernel_size, strides if i == strided else 1, f"{name}_conv{i + 1}")
        after = spec.activation.after_last_conv if i + 1 == last else ("bn", "relu")
        for kind in after:
            x = layers.batch_norm(x, f"{name}_bn{i + 1}") if kind == "bn" else layers.relu(x, f"{name}_relu{i + 1}")
    return x


def _project(x, filters, strides, changes_size, spec, layers, name):
    """h(x) before scaling, gates and dropout: x in the shape of the branch's output."""
    if spec.projects(changes_size):
        x = layers.conv(x, filters, 1, strides, f"{name}_conv")
        # Normalised where the branch's last convolution is, so that the two terms are alike.
        return layers.batch_norm(x, f"{name}_bn") if "bn" in spec.activation.after_last_conv else x
    if changes_size:
        if strides > 1:
            x = layers.subsample(x, strides, f"{name}_subsample")
        return layers.pad_channels(x, filters, f"{name}_pad")
    return x
