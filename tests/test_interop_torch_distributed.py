"""Models that replace() changed train under torch's data parallelism: two processes beside one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).parent))
import torch_distributed_worker as worker  # noqa: E402
from processes import launch  # noqa: E402


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_processes_are_one(wrapper: str, tmp_path: Path) -> None:
    for status, output in launch("torch", 2, [str(worker.__file__), str(tmp_path), wrapper]):
        assert status == 0, output
    found = [np.load(tmp_path / f"{wrapper}-{rank}.npz")["arr_0"] for rank in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
    (want,) = worker.train(worker.make(swap=False), slice(0, worker.BATCH))
    np.testing.assert_allclose(found[0], want, rtol=2e-5, atol=2e-5)
