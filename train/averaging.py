"""Evaluates and publishes weights with moving statistics that are measured for them.

Averaged weights (`average` of a recipe), a whole network that was trained without some of its units
(`units_per_batch`), and a network that was trained on smaller images (`image_size`) produce other activations than
those that the moving statistics of batch normalization tracked. So the statistics are measured again: the mean over
batches of each batch's mean and variance (Izmailov et al. 2018, arXiv 1803.05407, section 3.2), on training images
without crop, cutout, mixup or resizing.
"""

import contextlib

import keras
import numpy as np

from keras_resv2.transfer.freezing import with_inner
from train.optimizer import averages

STATISTICS_IMAGES = 10_000


@contextlib.contextmanager
def measured_weights(model, optimizer, steps, source, averaged):
    """Context manager that temporarily gives a network the weights to evaluate and their statistics.

    The weights and statistics of the training are restored afterwards.

    Args:
        model: `keras.Model`.
        optimizer: returned by `train.optimizer.make_optimizer`; with `averaged`, for a recipe with `average`.
        steps: returned by `train.steps.make_steps` for both.
        source: `train.data.source.BatchSource`.
        averaged: whether the weights are the averages of the optimizer.

    Example:

    >>> with measured_weights(model, optimizer, steps, source, averaged=True):  # doctest: +SKIP
    ...     error = measure(steps)
    """
    steps.sync()
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    try:
        if averaged:
            for variable, average in zip(model.trainable_variables, averages(optimizer), strict=True):
                variable.assign(average)
        if hasattr(model, "switches"):  # evaluate the whole network
            model.switches.assign(np.ones(model.switches.shape))
        _measure_statistics(model, steps, source)
        yield
    finally:
        steps.sync()
        for variable, array in zip(variables, before, strict=True):
            variable.assign(array)


def _measure_statistics(model, steps, source):
    """Sets the moving statistics of batch normalization to those of training images."""
    moving = [v for v in model.non_trainable_variables if v.name.endswith(("moving_mean", "moving_variance"))]
    sums, batches = [np.zeros(v.shape) for v in moving], 0
    with _without_momentum(model), contextlib.closing(source.plain_images()) as images:
        for batch in images:
            steps.move_statistics(batch)
            steps.sync()
            for total, variable in zip(sums, moving, strict=True):
                total += keras.ops.convert_to_numpy(variable)
            batches += 1
            if batches * len(batch) * source.num_shards >= min(STATISTICS_IMAGES, source.images_per_epoch):
                break
    for variable, total in zip(moving, sums, strict=True):
        variable.assign(total / batches)


@contextlib.contextmanager
def _without_momentum(model):
    """Context manager in which a step sets moving statistics to those of its batch."""
    layers = [layer for layer in with_inner(model.layers) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
