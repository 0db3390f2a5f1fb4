"""Sums over processes in the order of their ranks: the same bits run after run, whatever carries them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .group import Group

__all__ = ["mean_over", "padded"]


def padded(count: int, group: Group) -> int:
    """The least size >= count that can be cut into equal slices."""
    return -(-count // group.size) * group.size


def mean_over(flat: Any, group: Group) -> None:
    """flat, 1-D and of a size that padded() gave, becomes its mean over the processes.

    Each adds up one slice, in the order of ranks, so that 2 (size - 1) / size of the bytes are sent.
    """
    received = np.empty_like(flat)
    group.all_to_all(flat, received)
    slices = received.reshape(group.size, -1)
    total = slices[0]
    for other in slices[1:]:
        np.add(total, other, out=total)
    np.divide(total, group.size, out=total)
    group.all_gather(total, flat)
