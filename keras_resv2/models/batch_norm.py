"""Batch normalization with the fastest kernel of each backend, and conversion back to Keras' own layer.

Keras 3 composes the normalization from separate operations on a float32 copy of its input. The backends have fused
kernels that minimize memory traffic, and that take half precision while accumulating in float32. The layer here uses
them where they apply. In all other respects it is Keras' layer: arguments, weights, moving statistics and, up to
rounding, results.
"""

import functools
from typing import Any

import keras

from keras_resv2.models.copying import copy_model
from keras_resv2.models.graph import all_layers
from keras_resv2.registration import saying_what_to_import


@keras.saving.register_keras_serializable(package="keras_resv2")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, faster on feature maps.

    On TensorFlow and PyTorch it uses their fused kernels for feature maps ``(batch, height, width, channels)`` with
    scale and offset, and on JAX, in training, `keras_resv2.models.batch_norm_jax`, which defines its own gradient
    (reverse mode, first order). All other features of Keras' layer (masks, renormalization, statistics synchronized
    across devices, channels_first on TensorFlow) use Keras' code, as does inference on JAX, whose compiler fuses the
    separate operations itself.

    Arguments, weights, inputs and outputs are those of `keras.layers.BatchNormalization`. When frozen (``trainable =
    False``), the layer uses its moving statistics and does not update them, even in `fit`.

    Example:

    >>> layer = BatchNormalization(momentum=0.9, epsilon=1e-5)
    >>> layer(keras.ops.ones((2, 4, 4, 3)), training=True).shape == (2, 4, 4, 3)
    True
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        training = bool(training) and self.trainable
        kernel = self._kernel(inputs, mask, training)
        if kernel is None:
            return super().call(inputs, training=training, mask=mask)
        outputs, statistics = kernel(self, inputs, training)
        if statistics is not None:
            for name, batch in zip(("moving_mean", "moving_variance"), statistics, strict=True):
                moving = getattr(self, name)
                # In float32 even if the variables are not, as with the policies "float16" and "bfloat16".
                value = keras.ops.cast(moving, "float32") * self.momentum + batch * (1.0 - self.momentum)
                moving.assign(keras.ops.cast(value, moving.dtype))
        return keras.ops.cast(outputs, self.compute_dtype)

    def get_build_config(self) -> dict[str, Any] | None:
        return saying_what_to_import(super().get_build_config())

    def _kernel(self, inputs, mask, training):
        """Returns a function (layer, inputs, training) to outputs and batch statistics, or None if none applies."""
        axis = self.axis % 4
        plain = self.scale and self.center and not self.synchronized and not getattr(self, "renorm", False)
        if mask is not None or len(inputs.shape) != 4 or axis not in (1, 3) or not plain:
            return None
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype not in ("float32", "float16", "bfloat16"):
            return None
        backend = keras.backend.backend()
        if backend == "tensorflow":
            return _tensorflow if axis == 3 else None
        if backend == "jax":
            return _jax if training else None
        if backend != "torch":
            return None
        # PyTorch's kernel rejects training on a single value per channel.
        alone = all(size == 1 for i, size in enumerate(inputs.shape) if i != axis)
        return None if alone and training else _torch


def _tensorflow(layer, inputs, training):
    import tensorflow as tf

    scale, offset, moving_mean, moving_variance = (
        tf.cast(variable, "float32") for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    kernel = functools.partial(tf.compat.v1.nn.fused_batch_norm, inputs, scale, offset, epsilon=layer.epsilon)
    if not training:
        return kernel(moving_mean, moving_variance, is_training=False)[0], None
    outputs, mean, variance = kernel(is_training=True)
    # The kernel returns the unbiased variance; Keras uses the biased one.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    return outputs, (mean, variance * ((count - 1) / count))


def _jax(layer, inputs, training):
    from keras_resv2.models.batch_norm_jax import batch_norm

    scale, offset = (keras.ops.cast(variable, "float32") for variable in (layer.gamma, layer.beta))
    outputs, *statistics = batch_norm(inputs, scale, offset, layer.axis % 4, layer.epsilon)
    return outputs, statistics


def _torch(layer, inputs, training):
    import torch
    from torch.nn.functional import batch_norm

    scale, offset = (keras.ops.cast(variable, "float32") for variable in (layer.gamma, layer.beta))
    channels_first = inputs if layer.axis % 4 == 1 else inputs.permute(0, 3, 1, 2)
    if training:
        # With momentum 1 the buffers hold the batch statistics afterwards.
        mean, variance = torch.zeros_like(scale), torch.zeros_like(scale)
        outputs = batch_norm(channels_first, mean, variance, scale, offset, True, 1.0, layer.epsilon)
        count = channels_first.numel() // channels_first.shape[1]
        statistics = mean, variance * ((count - 1) / count)
    else:
        moving = (keras.ops.cast(variable, "float32") for variable in (layer.moving_mean, layer.moving_variance))
        outputs = batch_norm(channels_first, *moving, scale, offset, False, 0.0, layer.epsilon)
        statistics = None
    return outputs if layer.axis % 4 == 1 else outputs.permute(0, 2, 3, 1), statistics


def to_stock_layers(model: keras.Model) -> keras.Model:
    """Copies a model, replacing the layers of this package by Keras' own.

    The `.keras` file of the copy opens without this package.

    Args:
        model: a functional `keras.Model`; networks nested in it, in wrappers and in custom layers are converted too.

    Returns:
        `keras.Model` with the same layer names, copied weights, and the same outputs up to rounding.

    Raises:
        ValueError: if the model is not functional, is rolled (Keras has no layer for its loops), or contains a custom
            layer that creates layers of this package itself.

    Example:

    >>> import keras_resv2
    >>> stock = to_stock_layers(keras_resv2.ResNet(8))
    >>> type(stock.get_layer("stem_bn")) is keras.layers.BatchNormalization
    True
    """

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if hasattr(layer, "unit_weights"):
            raise ValueError(f"model {model.name!r} is rolled: build it without rolled=True, from the same weights.")
        if type(layer) is BatchNormalization:
            return keras.layers.BatchNormalization.from_config(layer.get_config())
        return None

    copy = copy_model(model, replace)
    for holder in copy.layers:
        for layer in all_layers(holder):
            if type(layer).__module__.split(".")[0] == __name__.split(".")[0]:
                raise ValueError(
                    f"layer {holder.name!r} ({type(holder).__name__}) creates the layer {layer.name!r} itself, which "
                    "cannot be replaced there: pass it the network as an argument that its get_config returns."
                )
    return copy
