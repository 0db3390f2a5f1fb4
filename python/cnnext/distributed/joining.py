"""The processes that a launcher started: torchrun or mpirun."""

from __future__ import annotations

import os

from .group import Group
from .mpi_group import MpiGroup, join_mpi
from .sharing import share_processors
from .torch_group import TorchGroup, join_torch

__all__ = ["init"]

_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def _launcher() -> str | None:
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return "torch"
    return "mpi" if any(name in os.environ for name in _MPI_SIZES) else None


def init(backend: str | None = None, timeout: float = 600.0) -> Group:
    """The group of all processes that a launcher has started; a group of one where none has.

    backend: "torch" (`torchrun`; gloo between hosts) or "mpi" (`mpirun`, mpi4py); default: whose launcher's
    variables are set; torch.distributed is used as it is where it is initialised (over NCCL for GPUs).
    timeout: seconds that torch waits for the others before a DistributedError.
    All processes call it; the first call divides a host's processors among its processes, unless
    set_num_threads() or CNNEXT_NUM_THREADS has said otherwise.
    ImportError where the backend's package is not installed; ValueError for another backend's name.
    """
    backend = backend or _launcher()
    if backend is None:
        return Group()
    group: TorchGroup | MpiGroup
    if backend == "torch":
        group = join_torch(timeout)
    elif backend == "mpi":
        group = join_mpi()
    else:
        raise ValueError(f"init: backend={backend!r} must be 'torch' or 'mpi'")
    share_processors(group)
    return group
