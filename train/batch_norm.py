"""Batch normalisation for training on TensorFlow: its fused kernel, or statistics over several devices.

Keras' layer computes moments and normalisation as separate operations; the fused kernel does both in
one pass and takes bfloat16 with float32 statistics, which is faster on a CPU. Weights, names and results
are those of the stock layer.
"""

import keras

from keras_resv2.layers import deep_graph
from train.devices import ONE_DEVICE


def for_training(model, devices=ONE_DEVICE):
    """`model` with the batch normalisation that trains best where it runs.

    Args:
        model: a functional `keras.Model`.
        devices: `train.devices.Devices`.

    Returns:
        On TensorFlow a copy of the model, with the same layer names and weights: of the fused kernel on
        one device, of Keras' layer with synchronised statistics on several. Elsewhere the model itself.
    """
    if keras.backend.backend() != "tensorflow":
        return model
    if devices.count > 1:
        return _copy(model, keras.layers.BatchNormalization, synchronized=True)
    if keras.config.image_data_format() == "channels_last":
        return _copy(model, FusedBatchNormalization)
    return model


def _copy(model, kind, **changes):
    def clone(layer):
        if type(layer) is keras.layers.BatchNormalization:
            return kind.from_config({**layer.get_config(), **changes})
        return type(layer).from_config(layer.get_config())

    with deep_graph():
        copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by one kernel; channels_last feature maps only."""

    def call(self, inputs, training=None, mask=None):
        import tensorflow as tf

        kernel = tf.compat.v1.nn.fused_batch_norm
        scale, offset = tf.convert_to_tensor(self.gamma.value), tf.convert_to_tensor(self.beta.value)
        if not training or not self.trainable:
            mean, variance = (tf.convert_to_tensor(v.value) for v in (self.moving_mean, self.moving_variance))
            return kernel(inputs, scale, offset, mean, variance, epsilon=self.epsilon, is_training=False)[0]
        outputs, mean, variance = kernel(inputs, scale, offset, epsilon=self.epsilon, is_training=True)
        # The kernel returns the unbiased variance; Keras keeps the biased one.
        pixels = tf.size(inputs) // inputs.shape[-1]
        variance *= 1 - 1 / tf.cast(pixels, variance.dtype)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs
