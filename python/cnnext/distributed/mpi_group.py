"""Processes that MPI joins."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import numpy as np

from .group import DistributedError, Group

__all__ = ["MpiGroup", "end_others", "join_mpi"]


class MpiGroup(Group):
    """Over a communicator of mpi4py; None: COMM_WORLD.

    MPI ends the others when a process dies. One that an exception ends would wait for them in
    MPI_Finalize, as they for it: from here on such an exception ends all (`end_others`).
    """

    takes_numpy = True  # in all calls

    def __init__(self, communicator: Any = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD if communicator is None else communicator
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size > 1:
            _watch_exceptions()

    def _bytes(self, array: Any) -> list[Any]:
        return [array.reshape(-1).view(np.uint8), self._mpi.BYTE]

    def _call(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._comm, name)(*args)
        except self._mpi.Exception as error:
            raise DistributedError(f"rank {self.rank} of {self.size}: MPI {name} failed: {error}") from error

    def all_to_all(self, send: Any, receive: Any) -> None:
        """See Group."""
        self._call("Alltoall", self._bytes(send), self._bytes(receive))

    def all_gather(self, send: Any, receive: Any) -> None:
        """See Group."""
        self._call("Allgather", self._bytes(send), self._bytes(receive))

    def broadcast(self, array: Any) -> None:
        """See Group."""
        self._call("Bcast", self._bytes(array))

    def duplicate(self) -> Group:
        """See Group. DistributedError where MPI is not to be called by several threads at once."""
        names = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
        levels = {getattr(self._mpi, f"THREAD_{name}"): name for name in names}
        level = self._mpi.Query_thread()
        if level < self._mpi.THREAD_MULTIPLE:
            raise DistributedError(
                f"MPI runs at MPI_THREAD_{levels.get(level, level)}; the rule is MPI_THREAD_MULTIPLE: "
                "gradients travel in a thread of their own (mpi4py.rc.thread_level, or another MPI)"
            )
        return MpiGroup(self._call("Dup"))


def join_mpi() -> MpiGroup:
    """COMM_WORLD."""
    try:
        return MpiGroup()
    except ImportError as error:
        raise ImportError("mpirun's processes need mpi4py: pip install 'cnnext[mpi]'") from error


def end_others(status: int) -> None:
    """This process is about to fail: where MPI joins it to others, end all of them, at once."""
    if not _is_watching:
        return
    from mpi4py import MPI

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader is gone
            stream.flush()
    if MPI.Is_finalized():
        return
    if MPI.COMM_WORLD.Get_rank():
        time.sleep(1)  # the first one has the files: if it fails for the same reason, it has its say
    MPI.COMM_WORLD.Abort(status)


_is_watching = False


def _watch_exceptions() -> None:
    """From now on an exception that nobody catches is printed, and ends all processes."""
    global _is_watching
    if _is_watching:
        return
    _is_watching = True
    before = sys.excepthook

    def hook(kind: Any, error: Any, traceback: Any) -> None:
        before(kind, error, traceback)
        # What all processes have agreed upon ends each of them; and a session goes on.
        if not getattr(error, "together", False) and not hasattr(sys, "ps1"):
            end_others(1)

    sys.excepthook = hook
