"""The Keras layers of residual networks: one dtype policy and one data format for all."""

import dataclasses
import math

import keras
import numpy as np

from keras_resv2.models.batch_norm import BatchNormalization

FAN, NORMAL = "fan_out", "untruncated_normal"


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Makes the Keras layers of one network, all with the same dtype policy and data format.

    Attributes:
        dtype: a Keras dtype policy or its name; None for the global policy.
        data_format: "channels_last" or "channels_first".
        values: dictionary from ``<layer>/<variable>`` to an array: what weights start from. Those that
            are not in it start as their initializers say.
        template: whether the weights will never be used: they start as zeros, which costs nothing.
    """

    dtype: object
    data_format: str
    values: dict = dataclasses.field(default_factory=dict)
    template: bool = False

    @property
    def channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def build_layer(self, layer, x):
        """Calls a new layer for the first time, which makes its weights."""
        usual = {}
        for attribute in [name for name in vars(layer) if name.endswith("_initializer")]:
            value = self.values.get(f"{layer.name}/{attribute.removesuffix('_initializer')}")
            usual[attribute] = initializer = getattr(layer, attribute)
            known = value is not None or self.template
            setattr(layer, attribute, _ArrayInitializer(value) if known else fast_initializer(initializer))
        y = layer(x)
        for attribute, initializer in usual.items():
            setattr(layer, attribute, initializer)
        if getattr(layer, "use_bias", False) and misplaces_bias(layer, y.shape):
            raise ValueError(
                f"{layer.name} makes maps as wide as they have channels, {y.shape[1]}, and with channels_first Keras "
                "on TensorFlow adds a convolution's bias along the width then: take another input_shape, or "
                "channels_last."
            )
        return y

    def conv(self, x, filters, kernel_size, strides, name, bias=False):
        """Convolution, padded on all sides alike (as Torch and the papers' code do)."""
        padding = "same"
        if strides > 1 and kernel_size > 1:
            # TensorFlow's "same" pads a strided convolution more at the end than at the start.
            x = self.zero_padding(x, kernel_size // 2, f"{name}_pad")
            padding = "valid"
        layer = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=bias,
            # He et al. 2015b, eq. 14, with the fan counted at the output as the papers' code has it.
            kernel_initializer=keras.initializers.VarianceScaling(2.0, FAN, NORMAL),
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )
        return self.build_layer(layer, x)

    def activate(self, x, kinds, name):
        """`x` through the BN and ReLU that `kinds` lists, named `<name>_bn` and `<name>_relu`."""
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
        """Means of squares of pixels that do not overlap; those at the border are cut off where the size is odd."""
        own = dict(padding="same", data_format=self.data_format, dtype=self.dtype, name=name)
        return keras.layers.AveragePooling2D(size, strides=size, **own)(x)

    def subsample(self, x, strides, name):
        """Every `strides`-th pixel, from the first."""
        return self.max_pool(x, 1, strides, name)

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
        layer = keras.layers.Conv2D(
            like.shape[self.channel_axis],
            1,
            strides=strides,
            activation="sigmoid",
            kernel_initializer="he_normal",
            bias_initializer=keras.initializers.Constant(bias),
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}_conv",
        )
        return self.build_layer(layer, x)

    def add(self, a, b, name):
        return keras.layers.Add(dtype=self.dtype, name=name)([a, b])

    def classifier(self, x, classes, activation, name):
        """Class scores in float32, whatever the policy."""
        return self.build_layer(keras.layers.Dense(classes, activation=activation, dtype="float32", name=name), x)


def misplaces_bias(layer, shape):
    """Whether Keras on TensorFlow would add a bias to maps of this shape along another axis than the channels'.

    `keras.ops.add`, by which convolutions add it, takes the last axis for the channels where that has their
    length (Keras 3.5 to 3.15, at least).
    """
    first = getattr(layer, "data_format", None) == "channels_first"
    return first and keras.backend.backend() == "tensorflow" and shape[1] == shape[-1]


def fast_initializer(initializer):
    """What draws the same distribution without compiling an operation for each shape, as JAX does.

    Args:
        initializer: of Keras. That of the convolutions is replaced, others are returned as they are.

    Example:

    >>> fast_initializer(keras.initializers.VarianceScaling(2.0, FAN, NORMAL))((3, 3, 16, 32)).shape == (3, 3, 16, 32)
    True
    """
    scaling = isinstance(initializer, keras.initializers.VarianceScaling)
    if scaling and (initializer.mode, initializer.distribution) == (FAN, NORMAL):
        return _Normal(initializer)
    return initializer


class _Normal(keras.initializers.Initializer):
    """Normal numbers by NumPy, from the initializer's own seed: the same on every backend."""

    def __init__(self, scaling):
        self.scaling = scaling

    def __call__(self, shape, dtype=None):
        *window, _, outputs = shape
        deviation = math.sqrt(self.scaling.scale / (math.prod(window) * outputs))
        values = np.random.default_rng(self.scaling.seed).normal(0, deviation, shape)
        return keras.ops.convert_to_tensor(values, dtype)


class _ArrayInitializer(keras.initializers.Initializer):
    """First values of a weight that are known; zeros if they are not, or of another shape (the caller refuses them)."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        fits = self.value is not None and self.value.shape == tuple(shape)
        value = self.value if fits else np.zeros(shape)
        return keras.ops.convert_to_tensor(value, dtype)
