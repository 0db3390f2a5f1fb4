"""`cnnext train` in two processes: one result, the same bits run after run, nothing lost when one dies."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from processes import commands_of, launch

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed"
    ),
]
TRAIN = ["-m", "cnnext", "train", "digits", "--no-plots"]


def train(folder: Path, *options: str) -> str:
    """What the first process prints; the others print nothing."""
    ended = launch("torch", 2, [*TRAIN, *options])
    for status, output in ended:
        assert status == 0, output
    assert ended[1][1] == ""
    return ended[0][1]


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    options = ("--epochs", "3", "--batch-size", "32", "--lr", "0.003", "--quiet")
    first = train(tmp_path, *options, "--out", str(tmp_path / "a"))
    assert first.startswith("test accuracy ")
    assert float(first.split()[2]) > 90
    assert train(tmp_path, *options, "--out", str(tmp_path / "b")) == first
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # One process, on the same batches but for their order, is about as good.
    alone = cx.train.run(cx.train.TrainConfig.preset("digits", epochs=3), out=tmp_path / "c", plots=False)
    rows = (tmp_path / "a" / "history.jsonl").read_text().splitlines()
    assert abs(json.loads(rows[-1])["train_loss"] - alone_loss(tmp_path / "c")) < 0.2
    assert alone.test_accuracy > 0.9


def alone_loss(folder: Path) -> float:
    return json.loads((folder / "history.jsonl").read_text().splitlines()[-1])["train_loss"]


def test_a_batch_that_cannot_be_shared_is_named(tmp_path: Path) -> None:
    for status, output in launch("torch", 2, [*TRAIN, "--batch-size", "33", "--out", str(tmp_path / "a")]):
        assert status == 1
        assert "--batch-size 33 cannot be shared equally by 2 processes" in output


def test_a_killed_process_loses_no_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [*TRAIN, "--epochs", "4", "--quiet", "--save-every", "5", "--out", str(folder)]
    started = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, environment in commands_of("torch", 2, arguments)
    ]
    try:
        deadline = time.monotonic() + 200
        while not (folder / "last.safetensors").exists():
            assert time.monotonic() < deadline
            assert started[0].poll() is None, started[0].communicate()[0]
            time.sleep(0.02)
        os.kill(started[1].pid, signal.SIGKILL)
        output = started[0].communicate(timeout=200)[0]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert started[0].returncode == 1, output
    assert "DistributedError: rank 0 of 2" in output
    assert "last.safetensors goes on from step" in output
    assert len([line for line in output.splitlines() if line.startswith("cnnext: error:")]) == 1
    # What it left goes on, to the bits of a run that was never stopped.
    train(tmp_path, "--resume", str(folder), "--quiet")
    train(tmp_path, "--epochs", "4", "--quiet", "--out", str(tmp_path / "whole"))
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    weights = cx.load(folder / "checkpoint.safetensors")
    assert all(np.isfinite(value.numpy()).all() for value in weights.values())
