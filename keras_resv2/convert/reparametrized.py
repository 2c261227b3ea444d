"""Weights that PyTorch holds as several tensors: pruning masks and weight normalisation."""

import numpy as np

# Endings of the tensors that a weight is made from, by pairs: what they are, and how the weight is made.
PRUNED = ("_orig", "_mask")
NORMALISED = (("_g", "_v"), (".original0", ".original1"))


def plain_tensors(tensors):
    """The tensors with each weight as one array.

    Pruning (`torch.nn.utils.prune`) keeps ``weight_orig`` and ``weight_mask``, whose product is the weight; weight
    normalisation keeps length and direction, as ``weight_g`` and ``weight_v`` or, since PyTorch 2,
    ``parametrizations.weight.original0`` and ``original1``.

    Args:
        tensors: dictionary from names to arrays.

    Example:

    >>> plain_tensors({"conv1.weight_orig": np.array([1.0, 2.0]), "conv1.weight_mask": np.array([0.0, 1.0])})
    {'conv1.weight': array([0., 2.])}
    """
    plain = dict(tensors)
    for first, second, combine in [(*PRUNED, np.multiply), *((*pair, _weight_norm) for pair in NORMALISED)]:
        for name in [name for name in plain if name.endswith(first)]:
            stem = name.removesuffix(first)
            other = plain.get(stem + second)
            if other is not None and stem.endswith(("weight", "bias")) and _fit(plain[name], other, combine):
                plain[stem.replace("parametrizations.", "")] = combine(plain.pop(name), plain.pop(stem + second))
    return plain


def _fit(first, second, combine):
    if combine is np.multiply:
        return first.shape == second.shape
    return first.size == second.shape[0] and first.ndim == second.ndim if second.ndim else False


def _weight_norm(length, direction):
    """Length times direction, by output channel; PyTorch's default, ``dim=0``."""
    axes = tuple(range(1, direction.ndim))
    norm = np.sqrt(np.sum(np.square(direction, dtype="float64"), axis=axes, keepdims=True))
    return (direction * (length / np.where(norm > 0, norm, 1))).astype("float32")
