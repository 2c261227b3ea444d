"""Class weights: loss weights by class, as the argument `class_weight` of `fine_tune` gives them."""

import math
import numbers
from collections.abc import Sequence

import numpy as np

from keras_resv2.transfer.input_spec import class_probabilities

BALANCED = "balanced"


def check_class_weight(
    class_weight: str | dict[int, float] | Sequence[float] | np.ndarray | None, classes: int
) -> np.ndarray | str | None:
    """The argument `class_weight` of `fine_tune` as an array.

    Args:
        class_weight: None, "balanced", a dictionary from class indices to factors, or a factor for each class.
        classes: number of classes.

    Returns:
        float64 ``(classes,)``; None and "balanced" unchanged.

    Raises:
        ValueError: if it is something else, or a factor is negative, NaN or infinite, or all are 0.

    Example:

    >>> check_class_weight({1: 3.0}, 2).tolist(), check_class_weight([1, 2], 2).tolist()
    ([1.0, 3.0], [1.0, 2.0])
    """
    if class_weight is None or (isinstance(class_weight, str) and class_weight == BALANCED):
        return class_weight
    if isinstance(class_weight, dict):
        if not all(isinstance(k, numbers.Integral) and 0 <= k < classes for k in class_weight):
            raise ValueError(_message(class_weight, classes))
        factors = [class_weight.get(k, 1.0) for k in range(classes)]
    elif isinstance(class_weight, (list, tuple, np.ndarray)) and np.shape(class_weight) == (classes,):
        factors = list(class_weight)
    else:
        raise ValueError(_message(class_weight, classes))
    for index, factor in enumerate(factors):
        real = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
        if not real or not math.isfinite(factor) or factor < 0:
            raise ValueError(f"class_weight of class {index} is {factor!r}: it must be finite and at least 0.")
    if not any(factors):
        raise ValueError("class_weight is 0 for every class: there would be nothing to learn.")
    return np.array(factors, "float64")


def _message(class_weight, classes):
    return (
        f'class_weight={class_weight!r} must be "balanced", a dictionary from class indices (0 to {classes - 1}) to '
        f"factors of the loss, or a list of {classes} factors."
    )


def balance(
    class_weight: np.ndarray | str | None, labels: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> np.ndarray | None:
    """Class weights as an array: for "balanced" the factors that give every class the same total weight.

    Args:
        class_weight: as `check_class_weight` returns it.
        labels: ``(n,)`` or ``(n, classes)``.
        classes: number of classes.
        weights: sample weights ``(n,)``, or None.

    Returns:
        ``(classes,)``, or None.

    Example:

    >>> balance("balanced", np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    """
    if not isinstance(class_weight, str):
        return class_weight
    weights = np.ones(len(labels)) if weights is None else weights
    counts = weights @ class_probabilities(labels, classes)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.where(present, counts, 1)), 0.0)
