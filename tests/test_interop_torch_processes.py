"""Swapped models in a process that forks: after use, and as torch's DataLoader does for its workers.

In processes of their own: other tests leave threads behind that are no good company for a fork.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", minversion="2.4")
WORKER = Path(__file__).with_name("torch_fork_worker.py")


@pytest.mark.skipif(sys.platform != "linux", reason="fork with threads is Linux's affair")
@pytest.mark.parametrize("what", ["use", "loader"])
def test_fork(what: str) -> None:
    done = subprocess.run([sys.executable, WORKER, what], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
