"""bench.scaling: its processes meet, and where."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import scaling

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def test_the_port_is_held_while_the_processes_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started(Exception):
        """The first process would be started now."""

    def start(command: list[str], env: dict[str, str], **_: Any) -> None:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((env["MASTER_ADDR"], int(env["MASTER_PORT"])))
        raise Started

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(Started):
        scaling.launched(2, ["lenet5-train-64"], 1)


def test_two_processes_measure_a_step() -> None:
    found = scaling.launched(2, [next(name for name in scaling.STEPS if "lenet5-train" in name)], 1)
    (values,) = found.values()
    assert values["gradient_bytes"] > 0
    assert min(values["step_s"], values["mean_s"]) > 0


def test_expected_shares() -> None:
    assert scaling.expected(2.0, 100, 1, 1e9, 1e-6) == (2.0, 0.0)
    whole, exchange = scaling.expected(1.0, 10**6, 4, 1e9, 0.0)
    assert exchange == pytest.approx(1.5e-3)
    assert whole == pytest.approx(1.0 + 1.5e-3)  # one bucket, behind all of backward()
