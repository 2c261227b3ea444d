"""Arrays of the same shape as one array, so that what is done to each takes one launch and not one each.

A network of 110 layers has 329 trainable variables of about ten shapes. Where the state of a training loop is held
in stacks, an accelerator updates it by about ten launches.
"""

import collections

import keras


class Stacks:
    """Which of a list of arrays lie together in one with a leading axis.

    Args:
        groups: lists of indices; every index is in one of them. A group of one has no leading axis.

    Example:

    >>> import numpy as np
    >>> stacks = Stacks([[0, 2], [1]])
    >>> [tuple(array.shape) for array in stacks.stack([np.ones(3), np.ones(5), np.ones(3)])]
    [(2, 3), (5,)]
    """

    def __init__(self, groups):
        self.groups = [list(group) for group in groups]

    def stack(self, arrays):
        """Stacks of arrays, one for each group."""
        arrays = list(arrays)
        return [
            keras.ops.stack([arrays[i] for i in group]) if len(group) > 1 else arrays[group[0]] for group in self.groups
        ]

    def split(self, stacks):
        """The arrays that `stack` put together, in their order."""
        arrays = {}
        for group, stack in zip(self.groups, stacks, strict=True):
            arrays.update({i: stack[n] if len(group) > 1 else stack for n, i in enumerate(group)})
        return [arrays[i] for i in range(len(arrays))]


def group_alike(variables, key=lambda variable: None):
    """`Stacks` of variables that have the same shape, dtype and `key`."""
    groups = collections.defaultdict(list)
    for i, variable in enumerate(variables):
        groups[tuple(variable.shape), variable.dtype, key(variable)].append(i)
    return Stacks(groups.values())


def separate(variables):
    """`Stacks` that put nothing together."""
    return Stacks([i] for i in range(len(variables)))
