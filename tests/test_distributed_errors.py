"""What goes wrong in one process of several: all learn of it, none waits for ever, one line says what."""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import distributed, leaf_hooks, nn, train
from cnnext.distributed import data_parallel, sharing, torch_group

sys.path.insert(0, str(Path(__file__).parent))
import distributed_cases as cases
from cnnext.train import runner
from processes import HAS, launch

WORKER = str(Path(cases.__file__))
NEEDS = {name: pytest.mark.skipif(not has, reason=f"{name} is not installed") for name, has in HAS.items()}
LAUNCHERS = [pytest.param(name, marks=mark) for name, mark in NEEDS.items()]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_processes_that_differ_are_told(launcher: str) -> None:
    ended = launch(launcher, 2, [WORKER, "check"])
    for status, output in ended:
        assert status == 0, output
    text = "".join(output for _, output in ended)
    begin = "DistributedDataParallel: the processes' models differ; the first difference: process 0 has "
    for difference in (
        "parameter '1.weight' of float32 (4, 3), process 1 has parameter '1.weight' of float32 (5, 3)",
        "nothing more, process 1 has parameter '1.weight' of float32 (3, 3)",
        "bucket_cap_mb=1.0, process 1 has bucket_cap_mb=2.0",
        "accepted",
        "[60000.0, 1.0, 2.0, 2048.0]",
    ):
        line = difference if difference[0] in "a[" else begin + difference
        assert text.count(line) == 2, text
    # mpirun may put one's line behind the other's before its end.
    threads = re.findall(r"threads (\d+) of (\d+)", text)
    assert len(threads) == 2
    assert "7" in [count for count, _ in threads]  # which the first one set
    ours, mine = next(found for found in threads if found[0] != "7")
    assert 1 <= int(ours) <= int(mine)
    # Groups one behind another, over torch in the same processes.
    assert text.count("[1.0, 2.0]") == (4 if launcher == "torch" else 0)


@NEEDS["mpi"]
def test_an_exception_in_one_process_ends_all_of_mpi() -> None:
    ((status, output),) = launch("mpi", 2, [WORKER, "fail"])
    assert status != 0
    assert "KeyError: 'in one process'" in output


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_command_that_fails_in_one_process_ends_all(launcher: str, tmp_path: Path) -> None:
    ended = launch(launcher, 2, [WORKER, "command", str(tmp_path / "run")])
    text = "".join(output for _, output in ended)
    assert all(status != 0 for status, _ in ended), text
    assert "cnnext: error: no such data here" in text
    assert "Traceback" not in text


@NEEDS["torch"]
def test_one_process_stops_all(tmp_path: Path) -> None:
    for status, output in launch("torch", 2, [WORKER, "stop", str(tmp_path / "run")]):
        assert status == 0, output
    history = (tmp_path / "run" / "history.jsonl").read_text()
    assert len(history.splitlines()) == 2


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_signal_in_one_process_ends_all_at_one_step(launcher: str, tmp_path: Path) -> None:
    ended = launch(launcher, 2, [WORKER, "terminate", str(tmp_path / "run")])
    text = "".join(output for _, output in ended)
    assert all(status == 143 for status, _ in ended), text
    assert text.count("cnnext: interrupted") == 2
    assert "tmp" not in text.replace(str(tmp_path), "")  # where the second has its files
    assert cx.load(tmp_path / "run" / "last.safetensors")["extra"]["loop"]["step"] == 4


# ---- in this process


class Two(distributed.Group):
    """Two processes with the same gradients."""

    size = 2

    def all_to_all(self, send: np.ndarray, receive: np.ndarray) -> None:
        receive.reshape(2, -1)[...] = send.reshape(2, -1)[0]

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> None:
        receive.reshape(2, -1)[...] = send.reshape(-1)


def test_a_failed_backward_waits_for_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(flat: Any, group: Any) -> None:
        time.sleep(0.3)

    monkeypatch.setattr(data_parallel, "mean_over", slow)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    parallel = distributed.DistributedDataParallel(model, Two(), 1e-5)  # a bucket for each

    def fail(_: Any) -> None:
        raise RuntimeError("in a hook")

    handle = model[0].weight.register_post_accumulate_grad_hook(fail)
    with pytest.raises(RuntimeError, match="in a hook"):
        parallel(cx.Tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert parallel._sent
    assert all(future.done() for future in parallel._sent)
    handle.remove()

    sent: list[Future] = []

    def one_fails(flat: Any, group: Any) -> None:
        sent.append(parallel._sent[0])
        if len(sent) == 1:
            raise distributed.DistributedError("gone")
        time.sleep(0.3)

    monkeypatch.setattr(data_parallel, "mean_over", one_fails)
    with pytest.raises(distributed.DistributedError, match="gone"):
        parallel(cx.Tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert len(parallel._sent) == 4
    assert all(future.done() for future in parallel._sent)


def test_what_waits_for_the_end_runs_though_others_fail() -> None:
    leaf, seen = cx.Tensor(np.ones(2, np.float32), requires_grad=True), []

    def end(name: str) -> Any:
        def at_end(well: bool) -> None:
            seen.append((name, well))
            if name != "third":
                raise ValueError(name)

        return at_end

    def first(_: Any) -> None:
        for name in ("first", "second", "third"):
            leaf_hooks.at_end(end(name))
        raise TypeError("hook")

    def second(_: Any) -> None:
        seen.append(("hook", True))

    handle = leaf.register_post_accumulate_grad_hook(first)
    leaf.register_post_accumulate_grad_hook(second)
    with pytest.raises(TypeError, match="hook"):  # not an error of the ends
        leaf.sum().backward()
    assert seen == [("hook", True), ("first", False), ("second", False), ("third", False)]
    handle.remove()
    seen.clear()
    leaf.register_post_accumulate_grad_hook(lambda _: [leaf_hooks.at_end(end(n)) for n in ("first", "third")])
    with pytest.raises(ValueError, match="first"):
        leaf.sum().backward()
    assert seen == [("hook", True), ("first", True), ("third", True)]
    with pytest.raises(RuntimeError, match="no backward"):
        leaf_hooks.at_end(print)


def test_a_backward_within_a_hook_has_ends_of_its_own() -> None:
    outer, inner = (cx.Tensor(np.ones(2, np.float32), requires_grad=True) for _ in range(2))
    seen: list[str] = []

    def in_inner(_: Any) -> None:
        leaf_hooks.at_end(lambda well: seen.append(f"inner {well}"))

    def in_outer(_: Any) -> None:
        leaf_hooks.at_end(lambda well: seen.append(f"outer {well}"))
        with cx.enable_grad():
            inner.sum().backward()
        seen.append("in the hook")

    inner.register_post_accumulate_grad_hook(in_inner)
    outer.register_post_accumulate_grad_hook(in_outer)
    outer.sum().backward()
    assert seen == ["inner True", "in the hook", "outer True"]


def test_a_processor_is_divided_among_those_that_may_use_it() -> None:
    four, other = set(range(4)), set(range(4, 8))
    shared = [(b"a", four), (b"a", four), (b"b", four)]
    assert sharing._share(shared, 0) == 0.5
    assert sharing._share(shared, 2) == 1  # alone on its host
    assert sharing._share([(b"a", four), (b"a", other)], 1) == 1  # bound by the launcher
    assert sharing._share([(b"a", four), (b"a", {3, 4})], 1) == 0.75
    assert [sharing._count(4, share) for share in (1, 0.75, 0.5, 1 / 3, 0.1)] == [4, 3, 2, 1, 1]


def test_mpi_that_takes_one_thread_is_refused() -> None:
    group = object.__new__(distributed.MpiGroup)
    levels = {"THREAD_SINGLE": 0, "THREAD_FUNNELED": 1, "THREAD_SERIALIZED": 2, "THREAD_MULTIPLE": 3}
    group._mpi = SimpleNamespace(**levels, Query_thread=lambda: 2)
    with pytest.raises(distributed.DistributedError, match="MPI_THREAD_SERIALIZED; the rule is"):
        group.duplicate()


def test_errors_of_torch_are_one_short_line() -> None:
    error = RuntimeError(
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer\n"
        "Exception raised from recv at /pytorch/c10/x.cpp:12 (most recent call first):\nframe #0: c10"
    )
    assert torch_group._first_line(error) == "Connection closed by peer"


class Broken:
    """A store whose host is gone."""

    timeout = SimpleNamespace(total_seconds=lambda: 0.01)

    def __init__(self, gone: bool) -> None:
        self.gone = gone

    def add(self, key: str, count: int) -> int:
        if self.gone:
            raise RuntimeError("[c10d.cpp:9] Connection reset by peer")
        return 0


@pytest.mark.parametrize(
    ("gone", "why"), [(True, r"\(Connection reset by peer\)"), (False, "in 0.01 seconds")]
)
def test_errors_of_the_store_are_of_the_group(gone: bool, why: str) -> None:
    meeting = torch_group._Meeting(Broken(gone), 1, 2)
    with pytest.raises(distributed.DistributedError, match=f"rank 1 of 2: not all came to leave.. {why}"):
        meeting.leave()


def test_a_run_that_cannot_begin_or_end_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise distributed.DistributedError("rank 0 of 2: gone")

    trainer = SimpleNamespace(with_left=lambda error: f"{error}; what is left")
    with pytest.raises(train.RunError, match="rank 0 of 2: gone; what is left"):
        runner._leave(trainer, SimpleNamespace(leave=fails))
    monkeypatch.setattr(runner, "Trainer", fails)
    config = train.TrainConfig.preset("digits", epochs=1)
    with pytest.raises(train.RunError, match="the run cannot begin: rank 0 of 2: gone"):
        train.run(config, out=tmp_path / "run", plots=False)
    assert not (tmp_path / "run").exists()
    kept = tmp_path / "last.safetensors"
    kept.write_bytes(b"")
    for resumed, where in ((kept, str(tmp_path)), (None, "a temporary folder")):
        with pytest.raises(train.RunError) as error, runner._aside(resumed) as folder:
            raise train.RunError(f"{folder.path / 'x'}: damaged")
        assert str(error.value) == f"{where}/x: damaged"
