"""The networks of this package in plain PyTorch: an independent implementation to compare with.

Modules are named like the Keras layers (``stage2_unit3.conv1`` for ``stage2_unit3_conv1``), so that weights can be
copied by name.
"""

import sys

import torch
from torch import nn
from torch.nn import functional

from keras_resv2.argument_checks import check_choice
from keras_resv2.convert.layouts.pytorch import VARIABLES
from keras_resv2.models.blocks import STRIDE_ON
from keras_resv2.models.config import STEMS, resolve_network


class ResidualNetwork(nn.Module):
    """ResNet-v1 or ResNet-v2 from raw pixels to logits.

    Args:
        depth: number of weighted layers, see `keras_resv2.ResNet`.
        activation: "original" (v1) or "full_preactivation" (v2).
        projection: shortcut where the size changes: "A", "B" or "C"; None for the paper's choice.
        width: widening factor, see `keras_resv2.ResNet`.

    Raises:
        ValueError: if there is no such network.

    Example:

    >>> network = ResidualNetwork(20)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, depth, activation="original", projection=None, width=1):
        super().__init__()
        check_choice("activation", activation, ("original", "full_preactivation"))
        layout, spec = resolve_network(depth, activation, projection=projection, width=width)
        stem = STEMS[layout.stem]
        self.size, self.classes = stem.dataset.image_shape[0], stem.dataset.classes
        self.preactivation = activation == "full_preactivation"
        for name, values in (("mean", stem.dataset.mean), ("std", stem.dataset.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        channels = layout.widths[0]
        self.stem_conv = convolution(3, channels, stem.kernel_size, stem.strides)
        self.stem_bn = None if self.preactivation else batch_norm(channels)
        self.stem_pool = nn.MaxPool2d(3, stride=2, padding=1) if stem.pool else nn.Identity()
        self.units = []
        for stage, (count, width) in enumerate(zip(layout.units, layout.widths, strict=True), start=1):
            for number in range(1, count + 1):
                strides = 2 if number == 1 and stage > 1 else 1
                share = self.preactivation and stage == number == 1
                unit = Unit(channels, width, strides, spec, self.preactivation, share)
                self.add_module(f"stage{stage}_unit{number}", unit)
                self.units.append(f"stage{stage}_unit{number}")
                channels = width * spec.branch.expansion
        self.head_bn = batch_norm(channels) if self.preactivation else None
        self.head_dense = nn.Linear(channels, self.classes)

    def forward(self, pixels):
        x = self.stem_conv((pixels.float() - self.mean) / self.std)
        if self.stem_bn is not None:
            x = functional.relu(self.stem_bn(x), inplace=True)
        x = self.stem_pool(x)
        for name in self.units:
            x = getattr(self, name)(x)
        if self.head_bn is not None:
            x = functional.relu(self.head_bn(x), inplace=True)
        return self.head_dense(x.mean((2, 3)))


class Unit(nn.Module):
    """A residual unit: x to ``h(x) + F(x)``, with ReLU after the addition (v1) or BN-ReLU before F (v2)."""

    def __init__(self, channels, width, strides, spec, preactivation, share):
        super().__init__()
        filters = width * spec.branch.expansion
        self.preactivation, self.share, self.strides = preactivation, share, strides
        self.preact_bn = batch_norm(channels) if preactivation else None
        self.missing = filters - channels
        self.shortcut_conv = self.shortcut_bn = None
        if spec.projects(strides > 1 or self.missing > 0):
            self.shortcut_conv = convolution(channels, filters, 1, strides)
            self.shortcut_bn = None if preactivation else batch_norm(filters)
        self.depth = len(spec.branch.kernel_sizes)
        strided = STRIDE_ON[spec.stride_on] if self.depth == 3 else 0
        for i, (size, factor) in enumerate(zip(spec.branch.kernel_sizes, spec.branch.width_factors, strict=True)):
            self.add_module(f"conv{i + 1}", convolution(channels, width * factor, size, strides if i == strided else 1))
            channels = width * factor
            if i + 1 < self.depth or not preactivation:
                self.add_module(f"bn{i + 1}", batch_norm(channels))

    def forward(self, x):
        activated = functional.relu(self.preact_bn(x)) if self.preactivation else x
        y = activated
        for i in range(1, self.depth + 1):
            y = getattr(self, f"conv{i}")(y)
            if i < self.depth:
                y = functional.relu(getattr(self, f"bn{i}")(y), inplace=True)
            elif not self.preactivation:
                y = getattr(self, f"bn{i}")(y)
        y = y + self.shortcut(x, activated)
        return y if self.preactivation else functional.relu(y, inplace=True)

    def shortcut(self, x, activated):
        """Computes h(x); in v2 projections and the first unit read the activated x."""
        if self.shortcut_conv is not None:
            x = self.shortcut_conv(activated)
            return x if self.shortcut_bn is None else self.shortcut_bn(x)
        x = activated if self.share else x
        if self.strides > 1:
            x = x[:, :, :: self.strides, :: self.strides]
        if self.missing:
            x = functional.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return x


def convolution(channels, filters, kernel_size, strides):
    """Convolution without bias, initialized as in He et al. 2015b with fan-out."""
    layer = nn.Conv2d(channels, filters, kernel_size, strides, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


def copy_weights(arrays, network):
    """Copies the weights of a Keras network to a PyTorch network.

    Args:
        arrays: dictionary from ``<layer>/<variable>`` to an array, as returned by
            `keras_resv2.storage.weight_file.read_weights`.
        network: `ResidualNetwork`, modified in place.

    Raises:
        RuntimeError: if names or shapes differ.
    """
    state = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    for name, array in arrays.items():
        layer, variable = name.split("/")
        value = torch.tensor(array)
        if variable == "kernel":  # (height, width, in, out) or (in, out)
            value = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T
        state[f"{module_name(layer)}.{VARIABLES[variable]}"] = value
    network.load_state_dict(state)


def module_name(layer):
    """Returns the name of the module for a Keras layer.

    Example:

    >>> module_name("stage2_unit3_shortcut_conv"), module_name("stem_bn")
    ('stage2_unit3.shortcut_conv', 'stem_bn')
    """
    if not layer.startswith("stage"):
        return layer
    stage, unit, rest = layer.split("_", 2)
    return f"{stage}_{unit}.{rest}"


def export_onnx(depth, activation, width, batch_size, path):
    """Writes a network, with softmax, as an ONNX file that takes uint8 images ``(batch, height, width, 3)``.

    Args:
        depth, activation, width: see `ResidualNetwork`.
        batch_size: fixed number of images per call.
        path: path of the file.
    """

    class RawImages(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            return self.network(pixels.permute(0, 3, 1, 2)).softmax(-1)

    network = ResidualNetwork(depth, activation, width=width).eval()
    pixels = torch.zeros((batch_size, network.size, network.size, 3), dtype=torch.uint8)
    torch.onnx.export(RawImages(network).eval(), (pixels,), path, dynamo=True, external_data=False)


if __name__ == "__main__":
    export_onnx(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
