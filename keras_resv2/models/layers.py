"""Creates the Keras layers of residual networks with one dtype policy and data format."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_resv2.models.batch_norm import BatchNormalization

FAN, NORMAL = "fan_out", "untruncated_normal"


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Creates the Keras layers of one network, all with the same dtype policy and data format.

    Attributes:
        dtype: a Keras dtype policy or its name; None for the global policy.
        data_format: "channels_last" or "channels_first".
        values: dictionary from ``<layer>/<variable>`` to an array, the initial values of weights. Weights that are not
            in it use their initializers.
        template: whether the weights will never be used: they are initialized to zeros, which costs nothing.
        padding: a key of `keras_resv2.models.blocks.PADDINGS`, for strided convolutions.
        created: names of the weights that it has created, with their values if there are any.
    """

    dtype: Any
    data_format: str
    values: dict = dataclasses.field(default_factory=dict)
    template: bool = False
    padding: str = "torch"
    created: set[str] = dataclasses.field(default_factory=set)

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build_layer(self, layer, x):
        """Calls a new layer for the first time, which creates its weights."""
        usual = {}
        for attribute in [name for name in vars(layer) if name.endswith("_initializer")]:
            name = f"{layer.name}/{attribute.removesuffix('_initializer')}"
            value = self.values.get(name)
            self.created.add(name)
            usual[attribute] = initializer = getattr(layer, attribute)
            known = value is not None or self.template
            setattr(layer, attribute, _ArrayInitializer(value) if known else fast_initializer(initializer))
        y = layer(x)
        for attribute, initializer in usual.items():
            setattr(layer, attribute, initializer)
        if getattr(layer, "use_bias", False) and misplaces_bias(layer, y.shape):
            raise ValueError(
                f"{layer.name} outputs feature maps that are, or may be, as wide as they have channels, {y.shape[1]}, "
                "and with channels_first Keras on TensorFlow then adds the convolution's bias along the width: use "
                "another input_shape of known size, or channels_last."
            )
        return y

    def conv(self, x, filters, kernel_size, strides, name, bias=False, dilation=1):
        """Convolution, by default with the same padding on all sides (as in Torch and the papers' code)."""
        padding = "same"
        if strides > 1 and kernel_size > 1 and self.padding == "torch":
            # TensorFlow's "same" pads a strided convolution more at the end than at the beginning.
            x = self.zero_padding(x, kernel_size // 2, f"{name}_pad")
            padding = "valid"
        layer = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation,
            use_bias=bias,
            # He et al. 2015b, eq. 14, with fan-out as in the papers' code. Its type is inferred from Keras' default.
            kernel_initializer=keras.initializers.VarianceScaling(2.0, FAN, NORMAL),  # pyright: ignore[reportArgumentType]
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )
        return self.build_layer(layer, x)

    def activate(self, x, kinds, name):
        """Applies the BN and ReLU listed in `kinds` to `x`, named `<name>_bn` and `<name>_relu`."""
        for kind in kinds:
            x = self.batch_norm(x, f"{name}_bn") if kind == "bn" else self.relu(x, f"{name}_relu")
        return x

    def batch_norm(self, x, name):
        layer = BatchNormalization(axis=self.channel_axis, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name=name)
        return self.build_layer(layer, x)

    def relu(self, x, name):
        return keras.layers.Activation("relu", dtype=self.dtype, name=name)(x)

    def zero_padding(self, x, pixels, name):
        return keras.layers.ZeroPadding2D(pixels, data_format=self.data_format, dtype=self.dtype, name=name)(x)

    def max_pool(self, x, size, strides, name, padding="valid"):
        own = dict(padding=padding, data_format=self.data_format, dtype=self.dtype, name=name)
        return keras.layers.MaxPooling2D(size, strides=strides, **own)(x)

    def average_pool(self, x, size, name):
        """Averages non-overlapping squares of pixels, at the border of those that are there."""
        own = dict(padding="same", data_format=self.data_format, dtype=self.dtype, name=name)
        return keras.layers.AveragePooling2D(size, strides=size, **own)(x)

    def subsample(self, x, strides, name):
        """Takes every `strides`-th pixel, starting with the first."""
        return self.max_pool(x, 1, strides, name)

    def pad_channels(self, x, filters, name):
        """Pads `x` with zero channels, half before and half after, to `filters` channels."""
        missing = filters - x.shape[self.channel_axis]
        channels, none = (missing // 2, missing - missing // 2), (0, 0)
        # ZeroPadding2D pads two adjacent axes. With the opposite data format these are width and channels of a
        # channels_last tensor, or channels and height of a channels_first one.
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
        layer = keras.layers.Conv2D(
            like.shape[self.channel_axis],
            1,
            strides=strides,
            activation="sigmoid",
            kernel_initializer="he_normal",
            # Its type is inferred from Keras' default.
            bias_initializer=keras.initializers.Constant(bias),  # pyright: ignore[reportArgumentType]
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}_conv",
        )
        return self.build_layer(layer, x)

    def add(self, a, b, name):
        return keras.layers.Add(dtype=self.dtype, name=name)([a, b])

    def classifier(self, x, classes, activation, name):
        """Computes class scores in float32, whatever the policy."""
        return self.build_layer(keras.layers.Dense(classes, activation=activation, dtype="float32", name=name), x)


def misplaces_bias(layer: Any, shape: Sequence[int | None]) -> bool:
    """Returns whether Keras on TensorFlow would add a bias to maps of this shape along the wrong axis.

    `keras.ops.add`, which convolutions use to add it, assumes that the last axis holds the channels if its length
    equals their number (at least in Keras 3.5 to 3.15).
    """
    first = getattr(layer, "data_format", None) == "channels_first"
    return first and keras.backend.backend() == "tensorflow" and shape[-1] in (None, shape[1])


def fast_initializer(initializer: Any) -> Any:
    """Returns an equivalent initializer that does not compile an operation for each shape, as JAX would.

    Args:
        initializer: a Keras initializer. That of the convolutions is replaced, others are returned unchanged.

    Example:

    >>> fast_initializer(keras.initializers.VarianceScaling(2.0, FAN, NORMAL))((3, 3, 16, 32)).shape == (3, 3, 16, 32)
    True
    """
    scaling = isinstance(initializer, keras.initializers.VarianceScaling)
    if scaling and (initializer.mode, initializer.distribution) == (FAN, NORMAL):
        return _Normal(initializer)
    return initializer


class _Normal(keras.initializers.Initializer):
    """Draws normal numbers with NumPy from the initializer's own seed: the same on every backend."""

    def __init__(self, scaling):
        self.scaling = scaling

    def __call__(self, shape, dtype=None):
        *window, _, outputs = shape
        deviation = math.sqrt(self.scaling.scale / (math.prod(window) * outputs))
        values = np.random.default_rng(self.scaling.seed).normal(0, deviation, shape)
        return keras.ops.convert_to_tensor(values, dtype)


class _ArrayInitializer(keras.initializers.Initializer):
    """Initializes a weight to known values; zeros if they are None or of another shape, which the caller rejects."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        fits = self.value is not None and self.value.shape == tuple(shape)
        value = self.value if fits else np.zeros(shape)
        return keras.ops.convert_to_tensor(value, dtype)
