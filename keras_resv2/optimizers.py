"""Momentum SGD with L2 regularization as in the papers, for `model.fit`."""

from typing import Any

import keras
from keras import ops

from keras_resv2.argument_checks import check_choice

DECAYED = ("all", "kernels")


@keras.saving.register_keras_serializable(package="keras_resv2")
class SGD(keras.optimizers.SGD):
    """Momentum SGD whose L2 weight decay is part of the gradient, as in the papers' code and PyTorch's `SGD`.

    Unlike `keras.optimizers.SGD` it decays weights by default, with ``l2=1e-4``; ``l2=0`` turns this off. `decay`
    chooses which weights are decayed; in Keras 2, `decay` was a decay of the learning rate instead.

    The argument `weight_decay` of Keras' own optimizers multiplies the weights by ``1 - learning_rate * weight_decay``
    separately from the gradient, outside the momentum: with momentum 0.9 it has about a tenth of the effect of the same
    number in a paper or a PyTorch recipe. This optimizer adds ``l2 * weight`` to the gradient instead.

    Args:
        learning_rate: number or `keras.optimizers.schedules.LearningRateSchedule`; the papers start with 0.1.
        momentum: at least 0, below 1; 0.9 in the papers.
        nesterov: whether the momentum is Nesterov's.
        l2: factor of the weights in the gradient, at least 0; 1e-4 in He et al. 2015 (section 4.2).
        decay: which weights are decayed: "all" trainable ones, as in the papers; or "kernels" of convolutions and
            dense layers, not biases and batch normalization.
        **kwargs: other arguments of `keras.optimizers.SGD`. `weight_decay` is rejected.

    Raises:
        ValueError: if `l2` is negative, `decay` is not one of the choices, or `weight_decay` is given.

    Example:

    >>> import keras_resv2
    >>> model = keras_resv2.PreActResNet20()
    >>> model.compile(keras_resv2.SGD(0.1, momentum=0.9, l2=1e-4), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        l2: float = 1e-4,
        decay: str = "all",
        **kwargs: Any,
    ):
        if kwargs.get("weight_decay") is not None:
            raise ValueError("weight_decay is Keras' decay outside the momentum: use l2=, or keras.optimizers.SGD.")
        if not l2 >= 0:
            raise ValueError(f"l2={l2} must be at least 0.")
        check_choice("decay", decay, DECAYED)
        super().__init__(learning_rate, momentum, nesterov, **kwargs)
        self.l2, self.decay = float(l2), decay

    def decays(self, variable: keras.Variable) -> bool:
        """Returns whether a trainable variable is decayed."""
        return bool(self.l2) and (self.decay == "all" or variable.path.endswith("kernel"))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable; called by Keras."""
        # TensorFlow passes its own variable, which has no path.
        if self.decays(self._trainable_variables[self._get_variable_index(variable)]):
            gradient = gradient + self.l2 * ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, for `from_config` and `.keras` files."""
        return {**super().get_config(), "l2": self.l2, "decay": self.decay}
