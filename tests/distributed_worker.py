"""One process of tests/test_distributed.py: `distributed_worker.py FOLDER SCENARIO`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
from cnnext import distributed, nn

STEPS, BATCH = 3, 12


class Net(nn.Module):
    """Two convolutions, a norm, and branches that not every step reaches."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(2, 4, 3, padding=1), norm
        self.conv2, self.head = nn.Conv2d(4, 6, 3, stride=2), nn.Linear(6, 5)
        self.sometimes, self.never = nn.Linear(6, 5), nn.Linear(6, 5)

    def forward(self, x: Any, branch: bool = False) -> Any:
        y = self.conv2(self.norm(self.conv1(x)).relu()).mean((2, 3))
        return self.head(y) + self.sometimes(y) if branch else self.head(y)


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    return random.standard_normal((BATCH, 2, 7, 9), np.float32), random.integers(0, 5, BATCH)


def train(model: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The first step's gradients, and the state after some steps."""
    optimizer = cx.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(cx.Tensor(images)), labels).backward()
        if step == 0:
            found = {
                f"grad.{n}": p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None
            }
        optimizer.step()
    return found | {f"state.{n}": t.numpy().copy() for n, t in model.state_dict().items()}


def make(norm: Any, seed: int) -> Net:
    cx.manual_seed(seed)
    return Net(norm)


def results(group: distributed.Group, bucket_mb: float) -> dict[str, np.ndarray]:
    images, labels = data()
    share = BATCH // group.size
    mine = slice(group.rank * share, (group.rank + 1) * share)
    # Other weights in each process: those of the first count.
    found: dict[str, np.ndarray] = {}
    for name, norm in (("plain", nn.Identity()), ("sync", distributed.SyncBatchNorm2d(4, group=group))):
        model = distributed.DistributedDataParallel(make(norm, 1 + group.rank), group, bucket_mb)
        for key, value in train(model, images[mine], labels[mine]).items():
            found[f"{name}.{key.replace('module.', '')}"] = value

    model = distributed.DistributedDataParallel(make(nn.Identity(), 1), group, bucket_mb)
    logits = model(cx.Tensor(images[mine]), branch=group.rank == 0)
    nn.functional.cross_entropy(logits, labels[mine]).backward()
    assert model.module.never.weight.grad is None
    found["branch.sometimes"] = model.module.sometimes.weight.grad.numpy().copy()

    model.zero_grad()
    half = share // 2
    for part in (slice(mine.start, mine.start + half), slice(mine.start + half, mine.stop)):
        first = part.start == mine.start
        with model.no_sync() if first else contextlib.nullcontext():
            loss = nn.functional.cross_entropy(model(cx.Tensor(images[part])), labels[part])
            (loss / 2).backward()
    found["accumulated.conv1"] = model.module.conv1.weight.grad.numpy().copy()
    return found


def die(group: distributed.Group, folder: Path) -> None:
    """The last process is killed behind its second backward(); the first has saved before."""
    images, labels = data()
    model = distributed.DistributedDataParallel(make(nn.Identity(), 1), group)
    for step in range(1000):
        nn.functional.cross_entropy(model(cx.Tensor(images)), labels).backward()
        if group.rank == 0 and step == 1:
            cx.save(model.module.state_dict(), folder / "saved.safetensors")
        if group.rank == group.size - 1 and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    folder, scenario = Path(sys.argv[1]), sys.argv[2]
    group = distributed.init(timeout=60)
    if scenario == "die":
        try:
            die(group, folder)
        except distributed.DistributedError as error:
            print(f"DistributedError: {error}", flush=True)
            os._exit(3)
        return 0
    np.savez(folder / f"{scenario}-{group.rank}.npz", **results(group, 0.0002))
    group.barrier()
    return 0


if __name__ == "__main__":
    sys.exit(main())
