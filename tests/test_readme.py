"""The README's Python examples run as they stand; its two commands are where the check script looks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_example(number: int, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("python")[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples_and_commands() -> None:
    text = README.read_text()
    assert len(blocks("python")) >= 2
    for mark in ("main-command", "test-command"):
        assert re.search(rf"<!-- {mark} -->\n```sh\npip install", text), mark
