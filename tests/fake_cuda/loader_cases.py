"""Batches that come to a CUDA device beside the step: run by tests/test_device_arrays.py on lazy_cupy."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import cnnext as cx
import lazy_cupy
import numpy as np
import pytest
from cnnext.data import DataLoader, ImageSet, prefetch


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "cupy", lazy_cupy.module())
    threads = threading.active_count()
    yield
    gc.collect()
    assert threading.active_count() == threads, "a thread is left"
    lazy_cupy.forget()


def images(count: int) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, 3, 4, 5)).astype(np.uint8)
    return ImageSet(pixels, rng.integers(0, 10, count), mean=0.5, std=0.25)


def step(batch: Any, results: list) -> None:
    """Queue what reads the batch, as a training step would."""
    arrays = [lazy_cupy.bare(array) for array in batch]
    lazy_cupy.get_current_stream().push(lambda: results.append([array.copy() for array in arrays]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_batches_of_the_host(seed: int, keep: bool, channels_last: bool) -> None:
    """The same bits in the same order, whenever the streams run and whoever keeps what."""
    how = {"batch_size": 4, "shuffle": True, "seed": seed, "channels_last": channels_last}
    wanted = list(DataLoader(images(39), **how))
    loader = DataLoader(images(39), **how, device="cuda:1")
    chance, results, kept = random.Random(seed), [], []
    with lazy_cupy.Device(1):
        stream = lazy_cupy.Stream()
    with lazy_cupy.using(stream), lazy_cupy.Device(1):
        for batch in loader:
            assert [array.device.id for array in batch] == [1, 1]
            assert not channels_last or batch[0].transpose(0, 2, 3, 1).flags.c_contiguous
            step(batch, results)
            if keep:
                kept.append(batch)
            del batch
            for _ in range(chance.randrange(4)):  # the device gets on by some work
                chance.choice(lazy_cupy.streams).step()
    lazy_cupy.run_all(chance)
    assert len(results) == len(wanted) == len(loader)
    for found, expected in zip(results, wanted, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    for found, expected in zip(kept, wanted, strict=False):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.view(np.ndarray), b)


def test_the_next_copy_does_not_wait_for_the_step() -> None:
    """With the computing stream at a stand, the next batch arrives all the same."""
    made = iter_of(6)
    with lazy_cupy.Device(0):
        stream = lazy_cupy.Stream()
    with lazy_cupy.using(stream):
        batches = prefetch.prefetched(made, "cuda:0")
        first = next(batches)
        drain(stream)  # all that was there before the first step
        stream.push(lambda: None, lambda: False)  # a step that never ends
        del first
        wait_for(lambda: len(made_so_far) >= 3)
        side = lazy_cupy.streams[-1]
        while side.step():
            pass
        assert side.done == side.queued > 0
        assert side.queued >= 4  # two batches: each a wait and a copy
        stream.queue.clear()
        stream.queued = stream.done
        batches.close()


made_so_far: list[int] = []


def iter_of(count: int, fails: Any = None) -> Iterator[tuple[np.ndarray]]:
    made_so_far.clear()
    for i in range(count):
        if i == fails:
            raise OSError(f"batch {i} cannot be read")
        made_so_far.append(i)
        yield (np.full((2, 3), i, np.float32),)


def drain(stream: Any) -> None:
    while stream.queue:
        assert any(other.step() for other in lazy_cupy.streams)


def wait_for(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come")


def test_the_host_waits_for_no_copy() -> None:
    """Three buffers: of as many batches none is waited for while they are handed out."""
    batches = prefetch.prefetched(iter_of(3), "cuda:0")
    for _ in range(3):
        next(batches)
    assert "synchronize" not in lazy_cupy.log
    assert list(batches) == []
    assert len(lazy_cupy.pinned) == 3


def test_few_buffers_for_many_batches() -> None:
    assert len(list(prefetch.prefetched(iter_of(50), "cuda:0"))) == 50
    assert len(lazy_cupy.pinned) == 3


def test_no_more_is_made_than_there_is_room_for() -> None:
    batches = prefetch.prefetched(iter_of(50), "cuda:0")
    next(batches)
    threading.Event().wait(0.1)
    assert len(made_so_far) <= 1 + 2 + 3
    batches.close()


def test_leaving_early() -> None:
    batches = prefetch.prefetched(iter_of(50), "cuda:0")
    for (array,) in batches:
        assert array.shape == (2, 3)
        break
    batches.close()
    assert len(made_so_far) < 10
    lazy_cupy.run_all(random.Random(0))


@pytest.mark.parametrize("seed", range(4))
def test_memory_of_a_copy_that_nobody_waited_for(seed: int) -> None:
    """Whoever gets it next finds it his own."""
    batches = prefetch.prefetched(iter_of(50), "cuda:0")
    next(batches)
    wait_for(lambda: len(made_so_far) >= 3)
    next(batches)  # and one more on its way
    batches.close()
    del batches
    gc.collect()
    mine = [lazy_cupy.empty((2, 3), np.float32) for _ in range(3)]
    for array in mine:
        memory = lazy_cupy.bare(array)
        lazy_cupy.null.push(lambda memory=memory: memory.fill(-1))
    lazy_cupy.run_all(random.Random(seed))
    assert all((array == -1).all() for array in mine)


def test_never_started() -> None:
    iter(DataLoader(images(8), 4, device="cuda"))


@pytest.mark.parametrize("fails", [0, 1, 4])
def test_what_making_a_batch_raises(fails: int) -> None:
    results: list = []
    batches = prefetch.prefetched(iter_of(6, fails), "cuda:0")
    for _ in range(fails):
        step(next(batches), results)
    with pytest.raises(OSError, match=f"batch {fails} cannot be read"):
        next(batches)
    lazy_cupy.run_all(random.Random(1))
    assert [int(found[0][0, 0]) for found in results] == list(range(fails))


def test_batches_of_different_sizes() -> None:
    rng = np.random.default_rng(0)
    wanted = [(rng.random((n, 3)), rng.integers(0, 9, n)) for n in (2, 7, 1, 7, 3)]
    results: list = []
    for batch in prefetch.prefetched(iter(wanted), "cuda:0"):
        step(batch, results)
    lazy_cupy.run_all(random.Random(0))
    for found, expected in zip(results, wanted, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_at_all() -> None:
    assert list(prefetch.prefetched(iter_of(0), "cuda:0")) == []
    assert list(DataLoader(images(3), 4, drop_last=True, device="cuda:0")) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_stream_that_cuda_stream_names(seed: int) -> None:
    """Memory and copies are for the stream that cnnext's calls are queued on."""
    stream = lazy_cupy.Stream()
    results: list = []
    with cx.cuda_stream(stream.ptr):
        for batch in prefetch.prefetched(iter_of(20), "cuda:0"):
            with lazy_cupy.using(stream):
                step(batch, results)
            del batch
    assert not lazy_cupy.null.queue
    lazy_cupy.run_all(random.Random(seed))
    assert [int(found[0][0, 0]) for found in results] == list(range(20))


def test_epochs_go_on() -> None:
    loader = DataLoader(images(12), 4, shuffle=True, device="cuda:0")
    host = DataLoader(images(12), 4, shuffle=True)
    for _ in range(2):
        results: list = []
        for batch in loader:
            step(batch, results)
        lazy_cupy.run_all(random.Random(0))
        for found, expected in zip(results, host, strict=True):
            np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_position_is_behind_what_was_handed_out(workers: int) -> None:
    """Whatever is made ahead or under way then."""
    how = {"batch_size": 4, "shuffle": True, "device": "cuda:0", "num_workers": workers}
    going = DataLoader(images(39), **how)
    batches = iter(going)
    for _ in range(3):
        next(batches)
    wait_for(lambda: lazy_cupy.pinned)
    state = going.state_dict()
    assert state["batch"] == 3
    restored, results = DataLoader(images(39), **how), []
    restored.load_state_dict(state)
    rest = list(batches)
    for batch in restored:
        step(batch, results)
    lazy_cupy.run_all(random.Random(0))
    assert len(results) == len(rest) == 7
    for found, expected in zip(results, rest, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b.view(np.ndarray))


@pytest.mark.parametrize("device", ["cuda:7", "mps"])
def test_what_is_no_device(device: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=f"device '{device}'"):
        DataLoader(images(3), device=device)
