"""Names and shapes of a network's weights, without building the network."""

import dataclasses

from keras_resv2.models.config import resolve_network
from keras_resv2.models.layers import LayerFactory
from keras_resv2.models.network import body


@dataclasses.dataclass(frozen=True)
class _Map:
    """Feature maps of which only the number of channels is known."""

    channels: int

    @property
    def shape(self):
        return (None, None, None, self.channels)


class _Recorder(LayerFactory):
    """A `LayerFactory` that creates no layers and records the shapes of the weights in `values`."""

    def conv(self, x, filters, kernel_size, strides, name, bias=False, dilation=1):
        self.values[f"{name}/kernel"] = (kernel_size, kernel_size, x.channels, filters)
        if bias:
            self.values[f"{name}/bias"] = (filters,)
        return _Map(filters)

    def batch_norm(self, x, name):
        for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
            self.values[f"{name}/{weight}"] = (x.channels,)
        return x

    def gate(self, x, like, strides, bias, name):
        self.values[f"{name}_conv/kernel"] = (1, 1, x.channels, like.channels)
        self.values[f"{name}_conv/bias"] = (like.channels,)
        return _Map(like.channels)

    def pad_channels(self, x, filters, name):
        return _Map(filters)

    def _same(self, *inputs, **options):
        return inputs[0]

    relu = zero_padding = max_pool = subsample = average_pool = rescaling = multiply = dropout = add = _same


def weight_shapes(classes=None, **structure):
    """Returns names and shapes of a network's weights.

    Args:
        classes: of the classifier; None for a network without.
        **structure: of `keras_resv2.models.config.resolve_network`, depth among them.

    Returns:
        Dictionary from ``<layer>/<variable>`` to a shape, in the order of the network.

    Raises:
        ValueError: as `resolve_network`.

    Example:

    >>> weight_shapes(depth=20)["stem_conv/kernel"]
    (3, 3, 3, 16)
    """
    layout, spec = resolve_network(**structure)
    recorder = _Recorder(None, "channels_last", {})
    x = body(_Map(3), layout, spec, recorder)
    if classes is not None:
        recorder.values.update({"head_dense/kernel": (x.channels, classes), "head_dense/bias": (classes,)})
    return recorder.values
