"""Processes that compute together. cnnext has no communication of its own: torch or MPI carries the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DistributedError", "Group"]


class DistributedError(RuntimeError):
    """Another process is gone, or did not answer in time; the message says which call found out."""


class Group:
    """Processes with ranks 0 to size - 1; this class is a group of one, whose calls change nothing.

    Arrays are contiguous NumPy arrays (CuPy's over torch's NCCL), of one size and dtype in all processes.
    """

    rank = 0
    size = 1

    def all_to_all(self, send: Any, receive: Any) -> None:
        """Slice r of `send` goes to process r; slice r of `receive` comes from there."""
        receive[...] = send

    def all_gather(self, send: Any, receive: Any) -> None:
        """`send` of process r becomes slice r of `receive` in all."""
        receive[...] = send.reshape(receive.shape)

    def broadcast(self, array: Any) -> None:
        """The array of process 0 for all."""

    def barrier(self) -> None:
        """Waits for all."""
        found = np.zeros(self.size, np.uint8)
        self.all_gather(np.zeros(1, np.uint8), found)

    def duplicate(self) -> Group:
        """The same processes, and calls that do not meet this group's: for another thread."""
        return self

    def leave(self) -> None:
        """Waits for all, behind the last call: one that ends earlier may seem to have died to the others."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"
