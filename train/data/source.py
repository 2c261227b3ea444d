"""What the training loop asks of whatever feeds it."""

from collections.abc import Iterator
from typing import Any, Protocol


class BatchSource(Protocol):
    """A source of training batches: `DeviceData` and `TrainStream`, and what is wrapped around them.

    The host draws or reads a batch (`batches`); the compiled step turns it into images and labels
    (`augment`). What a step sees follows from (seed, step) alone, so a resumed run sees what an
    uninterrupted one would have.

    Attributes:
        device_data: arrays that stay on the device, handed to `augment` at every step.
        images_per_epoch: training images.
        max_steps_per_dispatch: how many batches one dispatch may hold.
        num_shards: how many processes each bring their part of a batch; 1 where each brings all of it.
        shard_index: which of these parts this process brings.
    """

    device_data: tuple
    images_per_epoch: int
    max_steps_per_dispatch: int
    num_shards: int
    shard_index: int

    def batches(self, first: int) -> Iterator[tuple]:
        """Yields what the host brings for step `first` and all that follow: tuples of NumPy arrays."""

    def augment(self, device_data: tuple, *batch: Any) -> tuple[Any, Any]:
        """Images ``(batch, height, width, 3)`` of a step, inside the compiled step, and what they are to be taken for.

        That is labels ``(batch,)``, or `train.losses.Targets`.
        """

    def plain_images(self) -> Iterator[Any]:
        """Yields batches of training images ``(n, height, width, 3)``, always the same, neither cut out nor mixed."""


class SourceWrapper:
    """A `BatchSource` that changes what another one brings; what it does not define is the other one's.

    Args:
        source: `BatchSource`.
    """

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        if name == "_source":  # before `__init__`
            raise AttributeError(name)
        return getattr(self._source, name)
