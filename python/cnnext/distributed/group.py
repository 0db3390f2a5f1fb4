"""Processes that compute together, over torch.distributed or MPI. cnnext has no communication of its own."""

from __future__ import annotations

import datetime
import os
from typing import Any

import numpy as np

from .. import get_num_threads, set_num_threads

__all__ = ["DistributedError", "Group", "init"]


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

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"


class TorchGroup(Group):
    """Over a process group of torch.distributed; None: the default one."""

    def __init__(self, process_group: Any = None) -> None:
        import torch
        import torch.distributed as dist

        self._torch, self._dist, self._group = torch, dist, process_group
        self.rank, self.size = dist.get_rank(process_group), dist.get_world_size(process_group)

    def _view(self, array: Any) -> Any:
        """torch's view of the bytes, so that any dtype passes."""
        flat = array.reshape(-1).view(np.uint8)
        return self._torch.from_numpy(flat) if isinstance(flat, np.ndarray) else self._torch.from_dlpack(flat)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> None:
        try:
            getattr(self._dist, name)(*args, group=self._group, **kwargs)
        except RuntimeError as error:
            line = " ".join(str(error).split())
            raise DistributedError(
                f"rank {self.rank} of {self.size}: {name} failed: another process has ended or does not "
                f"answer ({line[:300]})"
            ) from error

    def all_to_all(self, send: Any, receive: Any) -> None:
        """See Group."""
        self._call("all_to_all_single", self._view(receive), self._view(send))

    def all_gather(self, send: Any, receive: Any) -> None:
        """See Group."""
        new = hasattr(self._dist, "all_gather_single")  # the other's name in torch before 2.13
        name = "all_gather_single" if new else "all_gather_into_tensor"
        self._call(name, self._view(receive), self._view(send))

    def broadcast(self, array: Any) -> None:
        """See Group."""
        first = 0 if self._group is None else self._dist.get_global_rank(self._group, 0)
        self._call("broadcast", self._view(array), first)

    def duplicate(self) -> Group:
        """See Group."""
        ranks = self._dist.get_process_group_ranks(self._group) if self._group is not None else None
        return TorchGroup(self._dist.new_group(ranks))


class MpiGroup(Group):
    """Over a communicator of mpi4py; None: COMM_WORLD. MPI ends the others when a process dies."""

    def __init__(self, communicator: Any = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD if communicator is None else communicator
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()

    def _bytes(self, array: Any) -> list[Any]:
        return [array.reshape(-1).view(np.uint8), self._mpi.BYTE]

    def _call(self, name: str, *args: Any) -> None:
        try:
            getattr(self._comm, name)(*args)
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
        """See Group."""
        return MpiGroup(self._comm.Dup())


_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


def _launcher() -> str | None:
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return "torch"
    return "mpi" if any(name in os.environ for name in _MPI_SIZES) else None


def init(backend: str | None = None, timeout: float = 600.0) -> Group:
    """The group of all processes that a launcher has started; a group of one where none has.

    backend: "torch" (`torchrun`; gloo between hosts) or "mpi" (`mpirun`, mpi4py); default: whose launcher's
    variables are set; torch.distributed is used as it is where it is initialised (over NCCL for GPUs).
    timeout: seconds that torch waits for the others before a DistributedError.
    The processes of one host share its processors, unless CNNEXT_NUM_THREADS says otherwise.
    ImportError where the backend's package is not installed; ValueError for another backend's name.
    """
    backend = backend or _launcher()
    if backend is None:
        return Group()
    if backend == "torch":
        group: Group = _torch_group(timeout)
    elif backend == "mpi":
        try:
            group = MpiGroup()
        except ImportError as error:
            raise ImportError("mpirun's processes need mpi4py: pip install 'cnnext[mpi]'") from error
    else:
        raise ValueError(f"init: backend={backend!r} must be 'torch' or 'mpi'")
    here = next((int(os.environ[name]) for name in _LOCAL_SIZES if name in os.environ), 1)
    if here > 1 and "CNNEXT_NUM_THREADS" not in os.environ:
        # What is ours may be bound already (mpirun does): then it is not divided once more.
        everything = os.cpu_count() or 1
        set_num_threads(max(1, min(get_num_threads(), everything // here)))
    return group


def _torch_group(timeout: float) -> Group:
    try:
        import torch.distributed as dist
    except ImportError as error:
        raise ImportError("torchrun's processes need torch: pip install 'cnnext[torch]'") from error
    if not dist.is_initialized():
        try:
            dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout))
        except (RuntimeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise DistributedError(f"the processes did not meet: {line[:300]}") from error
    return TorchGroup()
