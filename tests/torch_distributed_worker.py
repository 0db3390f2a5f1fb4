"""One process of tests/test_interop_torch_distributed.py: `torch_distributed_worker.py FOLDER WRAPPER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from cnnext.interop import torch as interop

STEPS, BATCH = 3, 8


def make(swap: bool) -> Any:
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 8, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 5 * 4, 5),
    )
    if swap:
        report = interop.replace(model)
        assert "Conv2d" in str(report)
    return model


def train(model: Any, share: slice) -> list[np.ndarray]:
    """The logits of the whole batch after a few steps on a share of it."""
    random = torch.Generator().manual_seed(2)
    images = torch.randn(BATCH, 3, 10, 8, generator=random)
    labels = torch.randint(0, 5, (BATCH,), generator=random)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[share]), labels[share]).backward()
        optimizer.step()
    with torch.no_grad():
        return [model(images).numpy()]


def main() -> None:
    folder, wrapper = Path(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = make(swap=True)
    if wrapper == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.fsdp import fully_shard

        for layer in model:
            if next(layer.parameters(), None) is not None:
                fully_shard(layer, mesh=dist.init_device_mesh("cpu", (size,)))
        fully_shard(model, mesh=dist.init_device_mesh("cpu", (size,)))
    share = BATCH // size
    np.savez(folder / f"{wrapper}-{rank}.npz", *train(model, slice(rank * share, (rank + 1) * share)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
