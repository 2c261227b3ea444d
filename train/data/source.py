"""The interface of batch sources of the training loop."""

from collections.abc import Iterator
from typing import Any, Protocol


class BatchSource(Protocol):
    """A source of training batches: `DeviceData`, `TrainStream`, and wrappers around them.

    The host draws or reads a batch (`batches`); the compiled step converts it to images and labels (`augment`). Batches
    depend only on (seed, step), so a resumed run uses the same ones as an uninterrupted run.

    Attributes:
        device_data: arrays that stay on the device, passed to `augment` at every step.
        images_per_epoch: number of training images.
        max_steps_per_dispatch: maximum number of steps in one dispatch.
        image_size: (height, width) of the images of `augment`; None for streams, whose size may change.
        num_shards: number of processes that each provide a part of a batch; 1 if each provides the whole batch.
        shard_index: the part provided by this process.
    """

    device_data: tuple
    images_per_epoch: int
    image_size: tuple[int, int] | None
    max_steps_per_dispatch: int
    num_shards: int
    shard_index: int

    def batches(self, first: int) -> Iterator[tuple]:
        """Yields the host's data for step `first` and all following steps: tuples of NumPy arrays."""

    def augment(self, device_data: tuple, *batch: Any) -> tuple[Any, Any]:
        """Returns images ``(batch, height, width, 3)`` of a step and their targets, inside the compiled step.

        Targets are labels ``(batch,)`` or `train.losses.Targets`.
        """

    def plain_images(self) -> Iterator[Any]:
        """Yields batches of training images ``(n, height, width, 3)``, always the same, without cutout and mixup."""


class SourceWrapper:
    """A `BatchSource` that modifies the batches of another one, and delegates everything else to it.

    Args:
        source: `BatchSource`.
    """

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        if name == "_source":  # before `__init__`
            raise AttributeError(name)
        return getattr(self._source, name)
