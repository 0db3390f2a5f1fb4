"""docs/pytorch.md's example runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "pytorch.md"


def test_the_example_runs() -> None:
    pytest.importorskip("torch", minversion="2.4")
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(
        "swapped 3: 1 Conv2d, 1 MaxPool2d, 1 Linear\nfused 1: 1 Conv2d+ReLU+MaxPool2d\n"
    )
