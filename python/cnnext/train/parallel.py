"""What a run in several processes shares: gradients, sums, and who writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data, nn
from ..distributed import DistributedDataParallel, Group
from .store import RunError

__all__ = ["Parallel", "share_of_batch"]


def share_of_batch(batch_size: int, group: Group) -> int:
    """Images of each process's part of a batch. RunError where they cannot be equal."""
    if batch_size % group.size:
        raise RunError(f"--batch-size {batch_size} cannot be shared equally by {group.size} processes")
    return batch_size // group.size


class Parallel:
    """A model in every process of `group`, each with its share of the images.

    What is random has the same seeds in all processes, and the sums that decide about a run are over all of
    them, so that a checkpoint of the first is one of all.
    """

    def __init__(self, model: nn.Module, group: Group) -> None:
        self.group, self.model = group, DistributedDataParallel(model, group)

    def share(self, images: data.ImageSet) -> data.ImageSet:
        """Every size-th image; as many in all processes, so that a few may be left out."""
        whole = len(images) // self.group.size * self.group.size
        return images.subset(np.arange(self.group.rank, whole, self.group.size), images.name)

    def total(self, values: Any) -> np.ndarray:
        """The sum over the processes, in their order."""
        values = np.ascontiguousarray(values, np.float64)
        found = np.empty((self.group.size, *values.shape))
        self.group.all_gather(values, found)
        return np.add.reduce(found, axis=0)

    def settle(self) -> None:
        """Before a validation: batch norm's statistics of the first process for all."""
        for buffer in self.model.module.buffers():
            array = buffer.data.copy()
            self.group.broadcast(array)
            buffer.copy_(array)
