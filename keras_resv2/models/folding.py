"""The inference form of a network, with batch normalization and preprocessing folded into the convolutions.

With its moving statistics, batch normalization multiplies each channel by a constant and adds another. Directly after a
convolution whose output has no other consumer, both fold into the convolution::

    gamma (W * x - mean) / sqrt(variance + epsilon) + beta
        = (f W) * x + (beta - f mean),   f = gamma / sqrt(variance + epsilon)

ResNet-v1 therefore keeps no batch normalization; ResNet-v2 keeps those that read the sum of two paths, one per unit and
the head's. What can be folded is determined from the graph, not from layer names.
"""

import collections
import dataclasses

import keras
import numpy as np

from keras_resv2.models.adapters import is_plain
from keras_resv2.models.batch_norm import BatchNormalization
from keras_resv2.models.copying import LayerCopies, call_layers, copy_model, new_inputs
from keras_resv2.models.graph import as_functional, calls, check_functional, deep_graph
from keras_resv2.models.layers import misplaces_bias

# Exact types: a subclass may compute anything.
BATCH_NORMS = (keras.layers.BatchNormalization, BatchNormalization)
LINEAR_MAPS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
# Random in training only: the identity in inference.
RANDOM_LAYERS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")
RANDOM_LAYERS += ("GaussianDropout", "GaussianNoise", "ActivityRegularization")
RANDOM_LAYERS += ("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomShear")
RANDOM_LAYERS += ("RandomBrightness", "RandomHue", "RandomSaturation", "RandomColorJitter", "RandomColorDegeneration")
RANDOM_LAYERS += ("RandomGrayscale", "RandomSharpness", "RandomPosterization", "RandomErasing", "RandomPerspective")
RANDOM_LAYERS += ("RandomGaussianBlur", "RandomElasticTransform", "RandomInvert", "AugMix", "RandAugment")
RANDOM_LAYERS += ("MixUp", "CutMix")
TRAINING_ONLY = tuple(getattr(keras.layers, name) for name in RANDOM_LAYERS if hasattr(keras.layers, name))


def fold(model: keras.Model) -> keras.Model:
    """Copies a network for inference: fewer operations, the same outputs.

    - Batch normalization whose input is a convolution (or dense layer) without another consumer is folded into
      the kernel and a bias. Elsewhere, as before the branch in pre-activation units, it is kept, frozen.
    - The first convolution's kernel absorbs the division of the pixels by their standard deviation. Their mean is
      still subtracted first, in float32: the zero padding stands for pixels of mean value, so a bias instead would
      be wrong along the border, and raw pixels lose more precision in half precision. In float16, whose smallest
      numbers have fewer digits, preprocessing is kept unchanged.
    - Dropout, noise and augmentation are removed.
    - The loops of a rolled network are kept unchanged: build it unrolled to fold it.

    Layers that remain keep their names. Constants are computed in float64.

    Args:
        model: a functional `keras.Model` with any inputs and outputs: a network of this package, its `features`, its
            copy by `to_stock_layers`, or a network built on top of one. Nested models are folded too, as are those in
            wrappers (`TimeDistributed`) and in custom layers if their `get_config` returns them.

    Returns:
        `keras.Model` with the same inputs, and the same outputs up to rounding; not compiled, and sharing nothing with
        `model`.

    Raises:
        ValueError: if the model is not functional.

    Example:

    >>> import keras_resv2
    >>> [layer.name for layer in fold(keras_resv2.ResNet(8)).layers][:4]
    ['pixels', 'preprocessing', 'stem_conv', 'stem_relu']
    """
    model = check_functional(model)
    with deep_graph():
        return _rebuild(model, _plan(_Graph(model)))


def _rebuild(model, plan):
    def nested(network):
        return copy_model(as_functional(network)) if network in plan.training else fold(network)

    copies = LayerCopies(lambda layer: _copy(layer, plan), nested)

    def call(node, arguments, options):
        if node.operation in plan.left_out:
            return next(iter((*arguments, *options.values())))  # also of a layer called by keyword
        return copies[node.operation](*arguments, **options)

    inputs = new_inputs(model)
    outputs = call_layers(model, inputs, call)
    copies.set_weights(lambda layer, copy: _weights(layer, plan))
    return keras.Model(inputs, outputs, name=model.name)


class _Graph:
    """The calls of a model's layers, inputs first, and the producers and consumers of their tensors."""

    def __init__(self, model):
        self.nodes = calls(model)
        self.calls = collections.Counter(node.operation for node in self.nodes)
        self.readers = collections.defaultdict(list)
        for node in self.nodes:
            for x in node.input_tensors:
                self.readers[id(x)].append(node)
        for x in keras.tree.flatten(model.output):
            self.readers[id(x)].append(None)

    def only_reader(self, node):
        """Returns the only consumer of this call's output, if both are the only calls of their layers."""
        readers = self.readers[id(node.outputs[0])]
        if len(readers) != 1 or readers[0] is None:
            return None
        return readers[0] if self.calls[node.operation] == self.calls[readers[0].operation] == 1 else None


@dataclasses.dataclass
class _Plan:
    """What is done with the layers that are not copied unchanged.

    Attributes:
        training: layers of which a call has ``training=True``.
        left_out: layers that are removed: their input replaces their output.
        batch_norms: dictionary from a convolution to the batch normalization folded into it.
        scales: dictionary from a convolution to the factors of its input channels.
        offsets: dictionary from a `Rescaling` that no longer scales to the offset that it still adds.
    """

    training: set = dataclasses.field(default_factory=set)
    left_out: set = dataclasses.field(default_factory=set)
    batch_norms: dict = dataclasses.field(default_factory=dict)
    scales: dict = dataclasses.field(default_factory=dict)
    offsets: dict = dataclasses.field(default_factory=dict)


def _plan(graph):
    plan = _Plan({node.operation for node in graph.nodes if _trains(node)})
    for node in graph.nodes:
        layer, reader = node.operation, graph.only_reader(node)
        if layer in plan.training:
            continue
        if type(layer) in TRAINING_ONLY and node.outputs[0].dtype == node.input_tensors[0].dtype:
            plan.left_out.add(layer)
        elif (
            type(layer) in LINEAR_MAPS
            and reader
            and reader.operation not in plan.training
            and _normalizes(reader.operation, node)
        ):
            plan.batch_norms[layer] = reader.operation
            plan.left_out.add(reader.operation)
        elif type(layer) is keras.layers.Rescaling and layer.compute_dtype == "float32":
            if reader and type(reader.operation) is keras.layers.ZeroPadding2D:  # zeros times a factor are zeros
                reader = graph.only_reader(reader)
            if reader and type(reader.operation) is keras.layers.Conv2D:
                _plan_scale(layer, reader.operation, plan)
    return plan


def _trains(node):
    """Returns whether a layer was called with ``training=True``, such as dropout for uncertainty estimates."""
    return bool(node.arguments.kwargs.get("training"))


def _normalizes(layer, node):
    """Returns whether a layer is batch normalization of the output channels of a call of a linear map."""
    linear, rank = node.operation, len(node.outputs[0].shape)
    channel_axis = 1 if getattr(linear, "data_format", None) == "channels_first" else rank - 1
    return (
        type(layer) in BATCH_NORMS
        and layer.axis % rank == channel_axis
        and layer.compute_dtype == linear.compute_dtype
        and linear.activation in (None, keras.activations.linear)
        and is_plain(linear)
        and not misplaces_bias(linear, node.outputs[0].shape)
    )


def _plan_scale(rescaling, conv, plan):
    """Moves the factors of a `Rescaling`, if there is one per channel, into the convolution after it."""
    channels = conv.kernel.shape[-2]
    by_channel = [(channels,), (1, 1, channels)] if conv.data_format == "channels_last" else [(channels, 1, 1)]
    scale, offset = (np.asarray(x, "float64") for x in (rescaling.scale, rescaling.offset))
    fits = all(x.shape in ((), *by_channel) for x in (scale, offset)) and np.all(scale != 0) and np.any(scale != 1)
    # A kernel for values from 0 to 255 is so small that float16 represents it with fewer digits.
    if fits and conv.groups == 1 and is_plain(conv) and conv.compute_dtype != "float16":
        plan.scales[conv] = np.broadcast_to(scale.ravel(), channels)
        plan.offsets[rescaling] = (offset / scale).tolist()


def _copy(layer, plan):
    """Creates a new layer, without its weights."""
    config = layer.get_config()
    if layer in plan.batch_norms:
        config["use_bias"] = True
    if layer in plan.offsets:
        config.update(scale=1.0, offset=plan.offsets[layer])
    copy = type(layer).from_config(config)
    if type(layer) in BATCH_NORMS:
        copy.trainable = False
    return copy


def _weights(layer, plan):
    """Returns the weights of a layer's copy: its own, or for a convolution the folded ones."""
    if layer not in plan.batch_norms and layer not in plan.scales:
        return layer.get_weights()
    kernel, *bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
    if layer in plan.scales:
        kernel = kernel * plan.scales[layer][:, None]
    if layer in plan.batch_norms:
        factor, offset = _affine(plan.batch_norms[layer])
        kernel, bias = kernel * factor, [sum(bias) * factor + offset]
    return [kernel, *bias]


def _affine(layer):
    """Converts batch normalization in inference to a factor and an offset per channel."""

    def read(name, present=True, absent=None):
        return np.asarray(keras.ops.convert_to_numpy(getattr(layer, name)), "float64") if present else absent

    factor = read("gamma", layer.scale, 1.0) / np.sqrt(read("moving_variance") + layer.epsilon)
    return factor, read("beta", layer.center, 0.0) - factor * read("moving_mean")
