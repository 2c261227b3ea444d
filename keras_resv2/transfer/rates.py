"""One learning rate for each part of a network (Howard & Ruder 2018, arXiv 1801.06146, section 3.2)."""

import re

import keras

from keras_resv2.transfer.freezing import flat_layers

PARTS_OF_OTHER_NETWORKS = 4


@keras.saving.register_keras_serializable(package="keras_resv2")
class DiscriminativeAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) whose learning rate is multiplied by a factor of each weight's own.

    Args:
        factors: dictionary from the path of a variable to its factor; 1 for those that are not in it.
    """

    def __init__(self, *args, factors, **kwargs):
        super().__init__(*args, **kwargs)
        self._factors = factors

    def get_config(self):
        return {**super().get_config(), "factors": self._factors}

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow hands over its own variable, which has no path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        super().update_step(gradient, variable, learning_rate * self._factors.get(path, 1.0))


def rate_factors(model, decay):
    """Factors of the learning rate: 1 for the classifier, `decay` for the last stage, its square for the next ...

    Args:
        model: a `keras.Model`. The parts of a network of this package are stem, stages and head; of
            another one, four parts with equally many layers that have weights.
        decay: at most 1.

    Returns:
        Dictionary from the path of each variable to its factor.

    Example:

    >>> import keras_resv2
    >>> factors = rate_factors(keras_resv2.ResNet(8), 0.5)
    >>> sorted(set(factors.values()))
    [0.0625, 0.125, 0.25, 0.5, 1.0]
    """
    *body, classifier = [layer for layer in flat_layers(model) if layer.weights]
    numbers = _parts(body)
    count = max(numbers, default=0) + 1
    factors = {weight.path: 1.0 for weight in classifier.weights}
    for layer, number in zip(body, numbers, strict=True):
        factors |= dict.fromkeys((weight.path for weight in layer.weights), decay ** (count - number))
    return factors


def _parts(layers):
    """Number of each layer's part, from 0; what stands between the last stage and the classifier is of the stage."""
    names = [re.match(r"stem|stage\d+|head", layer.name) for layer in layers]
    if not all(names):
        return [index * PARTS_OF_OTHER_NETWORKS // len(layers) for index in range(len(layers))]
    order = [name for name in dict.fromkeys(match[0] for match in names) if name != "head"]
    return [order.index(match[0]) if match[0] in order else len(order) - 1 for match in names]
