"""Stacks arrays of the same shape, so that an operation on all of them takes a single kernel launch.

A network with 110 layers has 329 trainable variables of about ten shapes. If the state of a training loop is stored in
stacks, an accelerator updates it with about ten launches.
"""

import collections

import keras


class Stacks:
    """Groups of arrays that are stacked along a leading axis.

    Args:
        groups: lists of indices, which together contain every index once. A group of one has no leading axis.

    Example:

    >>> import numpy as np
    >>> stacks = Stacks([[0, 2], [1]])
    >>> [tuple(array.shape) for array in stacks.stack([np.ones(3), np.ones(5), np.ones(3)])]
    [(2, 3), (5,)]
    """

    def __init__(self, groups):
        self.groups = [list(group) for group in groups]

    def stack(self, arrays):
        """Stacks the arrays of each group."""
        arrays = list(arrays)
        return [
            keras.ops.stack([arrays[i] for i in group]) if len(group) > 1 else arrays[group[0]] for group in self.groups
        ]

    def split(self, stacks):
        """Splits the result of `stack` into the original arrays, in order."""
        arrays = {}
        for group, stack in zip(self.groups, stacks, strict=True):
            arrays.update({i: stack[n] if len(group) > 1 else stack for n, i in enumerate(group)})
        return [arrays[i] for i in range(len(arrays))]


def group_alike(variables, key=lambda variable: None):
    """Creates `Stacks` of variables with the same shape, dtype and `key`."""
    groups = collections.defaultdict(list)
    for i, variable in enumerate(variables):
        groups[tuple(variable.shape), variable.dtype, key(variable)].append(i)
    return Stacks(groups.values())


def separate(variables):
    """Creates `Stacks` in which every variable is separate."""
    return Stacks([i] for i in range(len(variables)))
