"""The ONNX operators of each Keras layer that residual networks are made of.

ONNX convolves ``(batch, channels, height, width)``. Feature maps are held so, whatever the model's data format.
"""

import keras
import numpy as np

from keras_resv2.models.batch_norm import BatchNormalization
from keras_resv2.models.folding import TRAINING_ONLY
from keras_resv2.models.graph import activation_name

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}
INTERPOLATIONS = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}


def write_layer(layer, names, tensors, writer):
    """Adds the operators of one call of a layer.

    Args:
        layer: of Keras.
        names: of the values that it reads, in the ONNX graph.
        tensors: the same values as the Keras model has them.
        writer: `keras_resv2.exporting.onnx_model.Writer`.

    Returns:
        Name of the value that the layer gives.

    Raises:
        ValueError: if there are no operators for this layer, or not as it is set.
    """
    if type(layer) not in WRITERS:  # exact types: a subclass may compute anything
        raise ValueError(
            f"there is no ONNX form for layer {layer.name!r} ({type(layer).__name__}): try Keras' own "
            "model.export(path, format='onnx'), or keep that layer outside of the exported network."
        )
    return WRITERS[type(layer)](layer, names, tensors[0], writer)


def _conv(layer, names, x, writer):
    kernel, *bias = layer.get_weights()
    weights = [writer.weight(f"{layer.name}/kernel", kernel.transpose(3, 2, 0, 1))]
    weights += [writer.weight(f"{layer.name}/bias", value) for value in bias]
    window = _window(layer, layer.kernel_size, layer.strides, layer.dilation_rate)
    y = writer.add("Conv", [*names, *weights], layer.name, group=layer.groups, **window)
    return _activated(layer, y, len(x.shape), writer)


def _window(layer, size, strides, dilation=(1, 1)):
    """Attributes of an operator that slides a window over feature maps."""
    attributes = {"kernel_shape": size, "strides": strides}
    if set(dilation) != {1}:
        attributes["dilations"] = dilation
    missing = [(width - 1) * step for width, step in zip(size, dilation, strict=True)]
    if layer.padding == "valid" or not any(missing):
        return attributes
    if max(strides) > 1:  # then what is padded depends on the size of the image
        return {**attributes, "auto_pad": "SAME_UPPER"}
    return {**attributes, "pads": [m // 2 for m in missing] + [m - m // 2 for m in missing]}


def _dense(layer, names, x, writer):
    if len(x.shape) != 2:
        raise ValueError(f"layer {layer.name!r} (Dense) reads {len(x.shape)} dimensions; in ONNX it can read 2.")
    kernel, *bias = layer.get_weights()
    weights = [writer.weight(f"{layer.name}/kernel", kernel)]
    weights += [writer.weight(f"{layer.name}/bias", value) for value in bias]
    return _activated(layer, writer.add("Gemm", [*names, *weights], layer.name), 2, writer)


def _batch_norm(layer, names, x, writer):
    rank = len(x.shape)
    if layer.axis % rank != (writer.channel_axis if rank == 4 else 1):
        raise ValueError(f"layer {layer.name!r} (BatchNormalization) normalizes axis {layer.axis}, not the channels.")
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (layer.moving_mean, layer.moving_variance))
    gamma = keras.ops.convert_to_numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = keras.ops.convert_to_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    values = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    weights = [writer.weight(f"{layer.name}/{name}", value) for name, value in values.items()]
    return writer.add("BatchNormalization", [*names, *weights], layer.name, epsilon=layer.epsilon)


def _rescaling(layer, names, x, writer):
    y = names[0]
    for kind, values, neutral in (("Mul", layer.scale, 1), ("Add", layer.offset, 0)):
        values = np.asarray(values, "float32")
        if np.any(values != neutral):
            by_channel = values.ndim == 1 or (values.ndim == 3 and values.shape[:2] == (1, 1))
            if by_channel and len(x.shape) == 4 and writer.channels_last:
                values = values.reshape(-1, 1, 1)
            elif values.ndim and writer.channels_last:
                raise ValueError(f"layer {layer.name!r} (Rescaling) has constants of shape {values.shape}.")
            part = "scale" if kind == "Mul" else "offset"
            y = writer.add(kind, [y, writer.weight(f"{layer.name}/{part}", values)], f"{layer.name}/{kind.lower()}")
    return y


def _zero_padding(layer, names, x, writer):
    """The layer pads two neighboring axes: height and width, or those that a data format not the model's means."""
    first = 1 if layer.data_format == "channels_last" else 2
    before, after = np.zeros(4, "int64"), np.zeros(4, "int64")
    for axis, (low, high) in enumerate(layer.padding, start=first):
        before[writer.axis(axis)], after[writer.axis(axis)] = low, high
    pads = writer.weight(f"{layer.name}/pads", np.concatenate([before, after]))
    return writer.add("Pad", [*names, pads], layer.name)


def _max_pooling(layer, names, x, writer):
    window = _window(layer, layer.pool_size, layer.strides)
    return writer.add("MaxPool", names, layer.name, **window)


def _average_pooling(layer, names, x, writer):
    window = _window(layer, layer.pool_size, layer.strides)
    return writer.add("AveragePool", names, layer.name, count_include_pad=0, **window)


def _resizing(layer, names, x, writer):
    options = [name for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias") if getattr(layer, name, 0)]
    if options or layer.interpolation not in INTERPOLATIONS:
        what = f"{options[0]}=True" if options else f"interpolation={layer.interpolation!r}"
        raise ValueError(f"there is no ONNX form for layer {layer.name!r}: a Resizing with {what}.")
    own = writer.add("Shape", names, f"{layer.name}/batch_and_channels", start=0, end=2)
    sides = writer.weight(f"{layer.name}/height_and_width", np.array([layer.height, layer.width], "int64"))
    sizes = writer.add("Concat", [own, sides], f"{layer.name}/sizes", axis=0)
    return writer.add(
        "Resize",
        [*names, "", "", sizes],
        layer.name,
        coordinate_transformation_mode="half_pixel",
        **INTERPOLATIONS[layer.interpolation],
    )


def _center_crop(layer, names, x, writer):
    sides = x.shape[1:3] if layer.data_format == "channels_last" else x.shape[2:4]
    wanted = (layer.height, layer.width)
    if any(side is None or side < size for side, size in zip(sides, wanted, strict=True)):
        raise ValueError(
            f"there is no ONNX form for layer {layer.name!r}: a CenterCrop of images of {sides}, which are of any size "
            "or smaller than what is cropped."
        )
    starts = [(side - size) // 2 for side, size in zip(sides, wanted, strict=True)]
    ends = [start + size for start, size in zip(starts, wanted, strict=True)]
    parts = {"starts": starts, "ends": ends, "axes": [2, 3]}
    weights = [writer.weight(f"{layer.name}/{name}", np.array(values, "int64")) for name, values in parts.items()]
    return writer.add("Slice", [*names, *weights], layer.name)


def _global_pooling(kind):
    def write(layer, names, x, writer):
        y = writer.add(kind, names, layer.name)
        return y if layer.keepdims else writer.add("Flatten", [y], f"{layer.name}/flat", axis=1)

    return write


def _activation(layer, names, x, writer):
    return _activated(layer, names[0], len(x.shape), writer, layer.name)


def _activated(layer, y, rank, writer, name=None):
    """`y` through the activation that is an argument of the layer."""
    kind = activation_name(layer)
    if kind in ("linear", "None"):
        return y
    if kind not in ACTIVATIONS:
        raise ValueError(f"there is no ONNX form for the activation {kind} of layer {layer.name!r}.")
    options = {}
    if kind == "softmax":
        axis = getattr(layer.activation, "axis", -1)  # of a Softmax object
        if axis not in (-1, rank - 1):
            raise ValueError(
                f"there is no ONNX form for the activation of layer {layer.name!r}: a softmax over {axis}."
            )
        options["axis"] = writer.axis(rank - 1) if rank == 4 else rank - 1
    return writer.add(ACTIVATIONS[kind], [y], name or f"{layer.name}/{kind}", **options)


def _softmax(layer, names, x, writer):
    if not isinstance(layer.axis, int):
        raise ValueError(f"there is no ONNX form for layer {layer.name!r}: a Softmax over several axes.")
    rank = len(x.shape)
    axis = layer.axis % rank
    return writer.add("Softmax", names, layer.name, axis=writer.axis(axis) if rank == 4 else axis)


def _relu(layer, names, x, writer):
    if (layer.max_value, layer.negative_slope, layer.threshold) != (None, 0, 0):
        raise ValueError(f"there is no ONNX form for layer {layer.name!r}: a ReLU with parameters.")
    return writer.add("Relu", names, layer.name)


def _merge(kind):
    def write(layer, names, x, writer):
        y = names[0]
        for number, other in enumerate(names[1:]):
            y = writer.add(kind, [y, other], f"{layer.name}/{number}" if number else layer.name)
        return y

    return write


WRITERS = {
    keras.layers.Conv2D: _conv,
    keras.layers.Dense: _dense,
    keras.layers.BatchNormalization: _batch_norm,
    BatchNormalization: _batch_norm,
    keras.layers.Rescaling: _rescaling,
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.AveragePooling2D: _average_pooling,
    keras.layers.Resizing: _resizing,
    keras.layers.CenterCrop: _center_crop,
    keras.layers.GlobalAveragePooling2D: _global_pooling("GlobalAveragePool"),
    keras.layers.GlobalMaxPooling2D: _global_pooling("GlobalMaxPool"),
    keras.layers.Activation: _activation,
    keras.layers.ReLU: _relu,
    keras.layers.Softmax: _softmax,
    keras.layers.Add: _merge("Add"),
    keras.layers.Multiply: _merge("Mul"),
    **dict.fromkeys(TRAINING_ONLY, lambda layer, names, x, writer: names[0]),
}
