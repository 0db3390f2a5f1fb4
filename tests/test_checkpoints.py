"""Checkpoints: a run that goes on from one ends with the bits of a run that was never stopped."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from cnnext import data, nn, optim, train
from cnnext.serialization import load_metadata

pytest.importorskip("safetensors")

# A run of the command on 300 images. Behind a step it may get a signal, some time later, wherever it is then:
# it sends that itself, and waits for it if it is done before, so that no other process has to be in time.
RUN = """
import os, signal, sys, threading
import numpy as np
from cnnext import cli, data
from cnnext.train import engine, runner

number, step, delay = int(sys.argv.pop(1)), int(sys.argv.pop(1)), float(sys.argv.pop(1))
if number == signal.SIGINT:  # a shell starts what runs in its background with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
few = [data.digits(split).subset(np.arange(size), split) for split, size in (("train", 300), ("test", 40))]
runner.load_data = lambda *_: (*data.holdout(few[0]), few[1])
timers, plain = [], engine.Trainer.on_batch_end

def on_batch_end(self, run):
    plain(self, run)
    if number and run.step >= step and not timers:
        timers.append(threading.Timer(delay, os.kill, (os.getpid(), number)))
        timers[0].daemon = True
        timers[0].start()

engine.Trainer.on_batch_end = on_batch_end
status = cli.main(sys.argv[1:])
if number == signal.SIGKILL:
    timers[0].join() if timers else os.kill(os.getpid(), number)
    signal.pause()
sys.exit(status)
"""
SAME = ("checkpoint.safetensors", "history.csv", "history.jsonl", "result.json", "config.json")


def command(
    *arguments: object, signal: int = 0, step: int = 0, delay: float = 0.0
) -> subprocess.CompletedProcess:
    """`cnnext train digits`, with a signal `delay` seconds behind a step."""
    how = [sys.executable, "-c", RUN, *map(str, (int(signal), step, delay)), "train", "digits"]
    how += [*map(str, arguments), "--no-plots", "--quiet"]
    return subprocess.run(how, capture_output=True, text=True, timeout=600, check=False)


def settings(folder: Path) -> tuple[object, ...]:
    return ("--epochs", 4, "--batch-size", 8, "--seed", 2, "--save-every", 3, "--out", folder)


def steps_saved(folder: Path) -> int:
    return cx.load(folder / "last.safetensors")["extra"]["loop"]["step"]


def test_killed_three_times_and_resumed(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert command(*settings(whole)).returncode == 0
    arguments = settings(broken)
    steps = sorted(
        random.sample(range(3, 130), 3)
    )  # of 136; from the third on there is a state to go on from
    delays = [random.uniform(0, 0.05) for _ in steps]
    for step, delay in zip(steps, delays, strict=True):
        killed = command(*arguments, signal=signal.SIGKILL, step=step, delay=delay)
        assert killed.returncode == -signal.SIGKILL, (killed.stderr, steps, delays)
        assert steps_saved(broken) >= step - 2
        arguments = ("--resume", broken, "--save-every", 3)
    done = command(*arguments)
    assert done.returncode == 0, (done.stderr, steps, delays)
    for name in SAME:
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), (name, steps, delays)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_ends_the_run(tmp_path: Path, number: int, status: int) -> None:
    folder = tmp_path / "run"
    arguments = ("--epochs", 400, "--batch-size", 8, "--save-every", 2, "--out", folder)
    done = command(*arguments, signal=number, step=4, delay=random.uniform(0, 0.05))
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert steps_saved(folder) >= 4
    assert (
        f"interrupted; {folder / 'last.safetensors'} goes on from step {steps_saved(folder)}" in done.stderr
    )


# ---- save_checkpoint and load_checkpoint ------------------------------------------------------------


def net(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(36 * width, 10),
    )  # fmt: skip


def parts() -> dict:
    model = net()
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    images = data.digits("train").subset(np.arange(60), "few")
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
        "scaler": optim.GradScaler(init_scale=4.0, growth_interval=2),
        "loader": data.DataLoader(
            images, 8, shuffle=True, seed=1, transform=data.RandomAffine(10), num_workers=1
        ),
    }


def some_steps(made: dict, batches) -> None:
    """A plain loop, without the engine."""
    model, scaler, optimizer = made["model"], made["scaler"], made["optimizer"]
    for images, labels in batches:
        loss = nn.functional.cross_entropy(model(cx.Tensor(images)), cx.Tensor(labels))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        made["scheduler"].step()


def test_a_plain_loop_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    cx.manual_seed(7)
    first, path = parts(), tmp_path / "state.safetensors"
    batches = iter(first["loader"])
    some_steps(first, [next(batches) for _ in range(3)])
    train.save_checkpoint(path, **first, extra={"note": [1, 2.5], "array": np.arange(3)}, metadata={"a": 1})
    some_steps(first, batches)
    some_steps(first, first["loader"])
    expected = cx.rand(3).numpy()

    cx.manual_seed(99)
    second = parts()
    extra = train.load_checkpoint(path, **second)
    assert extra["note"] == [1, 2.5]
    np.testing.assert_array_equal(extra["array"], np.arange(3))
    assert load_metadata(path) == {"a": 1}
    some_steps(second, second["loader"])
    some_steps(second, second["loader"])
    np.testing.assert_array_equal(cx.rand(3).numpy(), expected)
    assert second["scaler"].get_scale() == first["scaler"].get_scale() > 4
    for name, value in first["model"].state_dict().items():
        assert value.numpy().tobytes() == second["model"].state_dict()[name].numpy().tobytes(), name


def test_another_network_is_told_by_names_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    train.save_checkpoint(path, net())
    other = net(6)
    before = {name: value.numpy().copy() for name, value in other.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"is of another network than Sequential: 0\.weight is \[4, 1, 3, 3\] there and \[6, 1, 3, 3\] "
        r"here; 0\.bias is \[4\] there and \[6\] here; 1\.weight .*; and 4 more$",
    ):
        train.load_checkpoint(path, other)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(ValueError, match=r"1\.weight \[4\] is not here; .*; and 4 more$"):
        train.load_checkpoint(path, nn.Sequential(nn.Conv2d(1, 4, 3)))
    cut = {name: value for name, value in net().state_dict().items() if name != "5.weight"}
    cx.save({"model": cut, "random": cx.random.get_state(), "extra": {}}, path)
    with pytest.raises(ValueError, match=r"5\.weight \[10, 144\] is not there"):
        train.load_checkpoint(path, net())


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        train.load_checkpoint(path)
    train.save_checkpoint(path, net())
    made = parts()
    with pytest.raises(ValueError, match="it holds no optimizer, scheduler"):
        train.load_checkpoint(path, made["model"], made["optimizer"], made["scheduler"])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:8] + b"\xff" + whole[9:], b"\x80\x04}."):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole safetensors file") as caught:
            train.load_checkpoint(path, net())
        assert "\n" not in str(caught.value)
    cx.save(net().state_dict(), path)
    with pytest.raises(ValueError, match="is not such a checkpoint: it holds no extra, model, random"):
        train.load_checkpoint(path, net())
