"""docs/jax.md's example runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "jax.md"


def test_the_example_runs() -> None:
    pytest.importorskip("jax", minversion="0.6")
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "(16, 1, 3, 3) (10, 256)\n"
