"""Which part of a host's processors each of its processes takes."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from .. import _C, threads
from .group import Group

__all__ = ["share_processors"]

_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_MOST = 8192  # processors of a host
_is_done = False


def share_processors(group: Any) -> None:
    """Set the number of threads by the processors that this process may use, once."""
    global _is_done
    if _is_done or group.size == 1:
        return
    _is_done = True
    mine = _processors()
    if group.takes_numpy:  # in any case: the others do so
        share = _share(_gathered(mine, group), group.rank)
    else:
        here = next((int(os.environ[name]) for name in _LOCAL_SIZES if name in os.environ), 1)
        share = 1 / here
    if not threads.are_chosen():
        _C.set_num_threads(_count(_C.get_num_threads(), share))


def _processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _gathered(mine: set[int], group: Group) -> list[tuple[bytes, set[int]]]:
    """Each process's host and processors."""
    flags = np.zeros(_MOST, np.uint8)
    flags[[number for number in mine if number < _MOST]] = 1
    host = np.frombuffer(_host(), np.uint8)
    row = np.concatenate([host, np.packbits(flags)])
    rows = np.empty((group.size, row.size), np.uint8)
    group.all_gather(row, rows)
    return [
        (other[: host.size].tobytes(), set(np.flatnonzero(np.unpackbits(other[host.size :])).tolist()))
        for other in rows
    ]


def _host() -> bytes:
    """32 bytes that processes share which run on one kernel."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    return hashlib.sha256(f"{platform.node()} {boot}".encode()).digest()


def _share(processes: list[tuple[bytes, set[int]]], rank: int) -> float:
    """The part of its processors that is a process's own: each is divided among those that may use it."""
    host, mine = processes[rank]
    users = [other for name, other in processes if name == host]
    return sum(1 / sum(number in other for other in users) for number in mine) / max(len(mine), 1)


def _count(usable: int, share: float) -> int:
    return max(1, int(usable * share + 1e-6))
