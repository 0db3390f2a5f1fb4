"""Swapped models in a process that forks: after use, and as torch's DataLoader does for its workers."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.4")

import cnnext as cx  # noqa: E402
import cnnext.interop.torch as cxt  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork with threads is Linux's affair")


def swapped() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 8, 3))
    cxt.replace(model)
    return model


def gradient(model: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    model.zero_grad()
    model(x).square().mean().backward()
    return model[0].weight.grad.numpy().copy()


def test_a_child_computes_what_its_parent_does() -> None:
    model, x = swapped(), torch.linspace(-1, 1, 2 * 3 * 40 * 40).reshape(2, 3, 40, 40)
    before = cx.get_num_threads()
    cx.set_num_threads(2)
    try:
        want = gradient(model, x)  # both libraries' threads are there now
        child = os.fork()
        if child == 0:
            # torch's own threads do not outlive a fork: one of them, as DataLoader's workers have.
            torch.set_num_threads(1)
            os._exit(0 if gradient(model, x).tobytes() == want.tobytes() else 1)
        for _ in range(600):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        assert os.waitstatus_to_exitcode(status) == 0
        assert gradient(model, x).tobytes() == want.tobytes()
    finally:
        cx.set_num_threads(before)


class Blurred(torch.utils.data.Dataset):
    """Images that a convolution of cnnext's makes, in the loader's workers."""

    kernel = torch.full((1, 1, 3, 3), 1 / 9)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> torch.Tensor:
        image = torch.arange(24 * 24, dtype=torch.float32).reshape(1, 1, 24, 24) + i
        return cx.ops.conv2d(image, self.kernel, padding=1)[0]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_the_workers_of_a_data_loader() -> None:
    model, x = swapped(), torch.zeros(1, 3, 9, 9)
    model(x)
    want = [Blurred()[i] for i in range(12)]
    loader = torch.utils.data.DataLoader(Blurred(), batch_size=4, num_workers=2, timeout=120)
    for _ in range(2):  # epochs: new workers
        found = torch.cat(list(loader))
        assert torch.equal(found, torch.stack(want))
        model(x)
