"""A process that forks: `torch_fork_worker.py use|loader`; see tests/test_interop_torch_processes.py."""

from __future__ import annotations

import os
import sys

import cnnext as cx
import cnnext.interop.torch as cxt
import numpy as np
import torch


def swapped() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 8, 3))
    cxt.replace(model)
    return model


def gradient(model: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    model.zero_grad()
    model(x).square().mean().backward()
    return model[0].weight.grad.numpy().copy()


def use() -> None:
    """A child computes what its parent does."""
    model, x = swapped(), torch.linspace(-1, 1, 2 * 3 * 40 * 40).reshape(2, 3, 40, 40)
    cx.set_num_threads(2)
    want = gradient(model, x)  # both libraries' threads are there now
    child = os.fork()
    if child == 0:
        # torch's own threads do not outlive a fork: one of them, as DataLoader's workers have.
        torch.set_num_threads(1)
        os._exit(0 if gradient(model, x).tobytes() == want.tobytes() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gradient(model, x).tobytes() == want.tobytes()


class Blurred(torch.utils.data.Dataset):
    """Images that a convolution of cnnext's makes, in the loader's workers."""

    kernel = torch.full((1, 1, 3, 3), 1 / 9)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> torch.Tensor:
        image = torch.arange(24 * 24, dtype=torch.float32).reshape(1, 1, 24, 24) + i
        return cx.ops.conv2d(image, self.kernel, padding=1)[0]


def loader() -> None:
    """cnnext computes in the workers of a DataLoader."""
    model, x = swapped(), torch.zeros(1, 3, 9, 9)
    model(x)
    want = [Blurred()[i] for i in range(12)]
    batches = torch.utils.data.DataLoader(Blurred(), batch_size=4, num_workers=2, timeout=120)
    for _ in range(2):  # epochs: new workers
        found = torch.cat(list(batches))
        assert torch.equal(found, torch.stack(want))
        model(x)


if __name__ == "__main__":
    {"use": use, "loader": loader}[sys.argv[1]]()
