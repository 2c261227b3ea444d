"""Batch normalisation over the whole batch where several devices of TensorFlow share it."""

from keras_resv2.batch_norm import BatchNormalization
from keras_resv2.graphs import copy_model
from keras_resv2.rolled import RolledUnits
from train.devices import ONE_DEVICE


def for_devices(model, devices=ONE_DEVICE):
    """`model` with statistics over all devices' parts of the batch.

    Args:
        model: a functional `keras.Model`.
        devices: `train.devices.Devices`.

    Returns:
        With several devices on TensorFlow a copy of the model whose batch normalisation synchronises them,
        with the same layer names and weights. Else the model itself: JAX computes over the whole batch anyway.

    Raises:
        ValueError: the model is rolled, and there are several devices on TensorFlow.
    """
    if devices.strategy is None:
        return model
    if any(isinstance(layer, RolledUnits) for layer in model.layers):
        raise ValueError("a rolled network trains on one device of TensorFlow; on several use KERAS_BACKEND=jax.")

    def replace(layer):
        if isinstance(layer, BatchNormalization):
            return BatchNormalization.from_config({**layer.get_config(), "synchronized": True})
        return None

    return copy_model(model, replace)
