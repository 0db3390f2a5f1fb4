"""How many threads compute, and whether the user said so."""

from __future__ import annotations

import os

from . import _C

__all__ = ["are_chosen", "set_num_threads"]

_chosen = False


def set_num_threads(n: int, /) -> None:
    """Sets the size of the thread pool, 1 to 1024 (torch.set_num_threads)."""
    global _chosen
    _C.set_num_threads(n)
    _chosen = True


def are_chosen() -> bool:
    """Did the user call set_num_threads(), or set CNNEXT_NUM_THREADS?"""
    return _chosen or bool(os.environ.get("CNNEXT_NUM_THREADS"))
