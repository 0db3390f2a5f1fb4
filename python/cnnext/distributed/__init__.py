"""Training on several processes and machines, over torch.distributed or MPI.

    import cnnext as cx
    from cnnext import distributed

    group = distributed.init()                                    # torchrun's or mpirun's processes
    model = distributed.DistributedDataParallel(model, group)

See docs/SCALING.md.
"""

from .data_parallel import DistributedDataParallel
from .group import DistributedError, Group
from .joining import init
from .mpi_group import MpiGroup, end_others
from .sync_batch_norm import SyncBatchNorm2d
from .torch_group import TorchGroup

__all__ = [
    "DistributedDataParallel",
    "DistributedError",
    "Group",
    "MpiGroup",
    "SyncBatchNorm2d",
    "TorchGroup",
    "end_others",
    "init",
]
