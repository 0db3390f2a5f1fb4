"""Sums over processes in the order of their ranks: the same bits run after run, whatever carries them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import is_half
from .group import Group

__all__ = ["mean_over", "padded"]


def padded(count: int, group: Group) -> int:
    """The least size >= count that can be cut into equal slices."""
    return -(-count // group.size) * group.size


def mean_over(flat: Any, group: Group) -> None:
    """flat, 1-D and of a size that padded() gave, becomes its mean over the processes.

    Each adds up one slice, in the order of ranks, so that 2 (size - 1) / size of the bytes are sent. The sum
    of 16-bit values is one of float32, rounded once.
    """
    received = np.empty_like(flat)
    group.all_to_all(flat, received)
    slices = received.reshape(group.size, -1)
    total = slices[0].astype(np.float32) if is_half(flat.dtype) else slices[0]
    for other in slices[1:]:
        np.add(total, other.astype(total.dtype, copy=False), out=total)
    np.divide(total, group.size, out=total)
    group.all_gather(total.astype(flat.dtype, copy=False), flat)
