"""Discriminative learning rates: one for each stage (Howard & Ruder 2018, arXiv 1801.06146, section 3.2)."""

import re

import keras

from keras_resv2.transfer.freezing import flat_layers

GROUPS = 4  # of the layers of networks that are not of this package


@keras.saving.register_keras_serializable(package="keras_resv2")
class DiscriminativeAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with a factor of the learning rate for each variable.

    Args:
        factors: dictionary from the path of a variable to its factor; 1 for variables that it does not list.
    """

    def __init__(self, *args, factors: dict[str, float], **kwargs):
        super().__init__(*args, **kwargs)
        self._factors = factors

    def get_config(self):
        return {**super().get_config(), "factors": self._factors}

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow passes its own variable, which has no path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        super().update_step(gradient, variable, learning_rate * self._factors.get(path, 1.0))


def learning_rate_factors(model: keras.Model, decay: float) -> dict[str, float]:
    """Factors of the learning rate: 1 for the classifier, `decay` for the last stage, its square for the one before.

    Args:
        model: a network of this package, which has a stem, stages and a head; the layers with weights of another
            model are divided into four groups of the same size.
        decay: at most 1.

    Returns:
        Dictionary from the path of each variable to its factor.

    Example:

    >>> import keras_resv2
    >>> factors = learning_rate_factors(keras_resv2.ResNet(8), 0.5)
    >>> sorted(set(factors.values()))
    [0.0625, 0.125, 0.25, 0.5, 1.0]
    """
    *body, classifier = [layer for layer in flat_layers(model) if layer.weights]
    groups = _groups(body)
    count = max(groups, default=0) + 1
    factors = {weight.path: 1.0 for weight in classifier.weights}
    for layer, group in zip(body, groups, strict=True):
        factors |= dict.fromkeys((weight.path for weight in layer.weights), decay ** (count - group))
    return factors


def _groups(layers):
    """Group of each layer, from 0; layers between the last stage and the classifier belong to the last stage."""
    matches = [re.match(r"stem|stage\d+|head", layer.name) for layer in layers]
    names = [match[0] for match in matches if match]
    if len(names) < len(layers):
        return [index * GROUPS // len(layers) for index in range(len(layers))]
    order = [name for name in dict.fromkeys(names) if name != "head"]
    return [order.index(name) if name in order else len(order) - 1 for name in names]
