"""Fig. 2 of He et al. 2016: the six shortcuts, and the plain network without any."""

import dataclasses
import math
import numbers
from typing import Any, ClassVar

from keras_resv2.argument_checks import check_choice


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """One row of Fig. 2: the function applied to x, and the factor of the branch.

    Subclasses are frozen dataclasses: instances with equal parameters are equal, and ``str`` returns the form that
    `get_shortcut` parses. `register_shortcut` adds a custom one.

    Example:

    >>> str(ExclusiveGating(bias=-7))
    'exclusive_gating(bias=-7.0)'
    """

    name: ClassVar[str]

    def __call__(
        self, shortcut: Any, branch: Any, gate_input: Any, strides: int, layers: Any, name: str
    ) -> tuple[Any, Any]:
        """Returns the two terms of the addition.

        Args:
            shortcut: x in the shape of the branch's output, ``(batch, height, width, filters)``.
            branch: F(x), of the same shape.
            gate_input: x before any change of size, the input of gates.
            strides: stride of the unit, used by gates.
            layers: `keras_resv2.models.layers.LayerFactory`, which creates Keras layers with the network's precision
                and data format.
            name: prefix of the layer names.

        Returns:
            ``(shortcut, branch)``: the Keras tensors to add.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        parameters = ", ".join(f"{k}={v!r}" for k, v in dataclasses.asdict(self).items())
        return f"{self.name}({parameters})" if parameters else self.name


@dataclasses.dataclass(frozen=True)
class Identity(Shortcut):
    """Fig. 2 (a): x, unchanged."""

    name = "identity"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return shortcut, branch


@dataclasses.dataclass(frozen=True)
class ConstantScaling(Shortcut):
    """Fig. 2 (b): both paths multiplied by constants.

    Args:
        shortcut_scale: factor of x, lambda of eq. 6.
        branch_scale: factor of the branch; Table 1 has rows with 0.5 and with 1.
    """

    shortcut_scale: float = 0.5
    branch_scale: float = 0.5
    name = "constant_scaling"

    def __post_init__(self):
        _set_number(self, "shortcut_scale")
        _set_number(self, "branch_scale")

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        shortcut = layers.rescaling(shortcut, self.shortcut_scale, f"{name}_shortcut_scale")
        branch = layers.rescaling(branch, self.branch_scale, f"{name}_branch_scale")
        return shortcut, branch


@dataclasses.dataclass(frozen=True)
class ExclusiveGating(Shortcut):
    """Fig. 2 (c): ``(1 - g(x)) x + g(x) F(x)``, as in highway networks.

    Args:
        bias: initial value of the gate's bias b in ``g(x) = sigmoid(conv1x1(x) + b)``; the paper
            tries 0 to -10.
    """

    bias: float = -6.0
    name = "exclusive_gating"

    def __post_init__(self):
        _set_number(self, "bias")

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        gate = layers.gate(gate_input, branch, strides, self.bias, f"{name}_gate")
        carried = layers.rescaling(gate, -1.0, f"{name}_gate_carry", offset=1.0)
        shortcut = layers.multiply(carried, shortcut, f"{name}_shortcut_gated")
        return shortcut, layers.multiply(gate, branch, f"{name}_branch_gated")


@dataclasses.dataclass(frozen=True)
class ShortcutOnlyGating(Shortcut):
    """Fig. 2 (d): ``(1 - g(x)) x + F(x)``: the gate acts only on the shortcut.

    Args:
        bias: initial value of the gate's bias, as in `ExclusiveGating`.
    """

    bias: float = -6.0
    name = "shortcut_only_gating"

    def __post_init__(self):
        _set_number(self, "bias")

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        gate = layers.gate(gate_input, branch, strides, self.bias, f"{name}_gate")
        carried = layers.rescaling(gate, -1.0, f"{name}_gate_carry", offset=1.0)
        return layers.multiply(carried, shortcut, f"{name}_shortcut_gated"), branch


@dataclasses.dataclass(frozen=True)
class Conv1x1(Shortcut):
    """Fig. 2 (e): a 1x1 convolution in every unit: `Identity` with projection "C" (option C of He et al. 2015)."""

    name = "conv1x1"


@dataclasses.dataclass(frozen=True)
class DropoutShortcut(Shortcut):
    """Fig. 2 (f): dropout on the shortcut, during training.

    Keras preserves the expectation by scaling the remaining values by ``1 / (1 - rate)``.

    Args:
        rate: fraction to drop, at least 0 and below 1.
    """

    rate: float = 0.5
    name = "dropout"

    def __post_init__(self):
        _set_number(self, "rate")
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout rate {self.rate} must be at least 0 and below 1.")

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        return layers.dropout(shortcut, self.rate, f"{name}_shortcut_dropout"), branch


@dataclasses.dataclass(frozen=True)
class NoShortcut(Shortcut):
    """The plain network: only the branch, without an addition."""

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


def register_shortcut(kind: type[Shortcut]) -> type[Shortcut]:
    """Class decorator that registers a custom shortcut under its name, so that text can refer to it.

    Args:
        kind: a frozen dataclass that extends `Shortcut`, with a unique `name`, its parameters as numeric fields, and
            `__call__`.

    Returns:
        `kind`.

    Raises:
        ValueError: if another class has the name, or the name is not a Python identifier.
        TypeError: if `kind` is not a frozen dataclass that extends `Shortcut`.

    Example:

    >>> @register_shortcut
    ... @dataclasses.dataclass(frozen=True)
    ... class Decay(Shortcut):
    ...     rate: float = 0.9
    ...     name = "decay"
    ...
    ...     def __call__(self, shortcut, branch, gate_input, strides, layers, name):
    ...         return layers.rescaling(shortcut, self.rate, f"{name}_shortcut_scale"), branch
    >>> get_shortcut("decay(rate=0.8)")
    Decay(rate=0.8)
    >>> _ = SHORTCUTS.pop("decay")  # so that other examples do not see it
    """
    frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
    if not (isinstance(kind, type) and issubclass(kind, Shortcut) and frozen):
        raise TypeError(f"{kind!r} must be a frozen dataclass that extends keras_resv2.shortcuts.Shortcut.")
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{kind.__name__}.name is {name!r} and must be a Python identifier, such as 'decay'.")
    known = SHORTCUTS.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"{kind.__name__}.name is {name!r}, which already names the shortcut {known.__qualname__}.")
    SHORTCUTS[name] = kind
    return kind


def get_shortcut(shortcut: str | Shortcut) -> Shortcut:
    """Returns the `Shortcut` for a name, or a name with parameters.

    Args:
        shortcut: a `Shortcut`, a key of `SHORTCUTS`, or a key with parameters, such as ``"exclusive_gating(bias=-7)"``.

    Returns:
        A `Shortcut`.

    Raises:
        ValueError: if the name, the name of a parameter or its value is not valid.

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


def _set_number(shortcut, name):
    """Converts a parameter, a Python or NumPy number, to float."""
    value = getattr(shortcut, name)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a finite number.")
    object.__setattr__(shortcut, name, float(value))
