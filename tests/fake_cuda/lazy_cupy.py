"""A stand-in for what the loader asks of CuPy, whose device is as late as it may be.

What is queued on a stream runs when somebody waits for it, or when run_all() lets the streams run, in an
order drawn by chance that breaks no event. A copy out of pinned memory reads what is there when it runs, and
memory that is freed goes at once to the next who allocates on its stream: so that whoever trusts in luck is
found out.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

_lock = threading.RLock()
streams: list[Stream] = []
log: list[str] = []
pinned: list[weakref.ref] = []
freed: dict[tuple, list[np.ndarray]] = {}  # by stream, device and size
_current = threading.local()


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        self.device, self.queue, self.done, self.queued = current_device(), deque(), 0, 0
        self.ptr = 1000 + len(streams)
        streams.append(self)

    def push(self, work: Callable[[], Any], ready: Callable[[], bool] = lambda: True) -> None:
        with _lock:
            self.queue.append((work, ready))
            self.queued += 1

    def wait_event(self, event: Event) -> None:
        stream, number = event.position
        self.push(lambda: None, lambda: stream.done >= number)

    def step(self) -> bool:
        """Run the first of what is queued; False where it has to wait."""
        if not self.queue or not self.queue[0][1]():
            return False
        self.queue.popleft()[0]()
        self.done += 1
        return True


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        self.position: tuple[Stream, int] = (null, 0)

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or get_current_stream()
        assert stream.device == current_device(), "an event of another device"
        self.position = (stream, stream.queued)

    def synchronize(self) -> None:
        with _lock:
            stream, number = self.position
            log.append("synchronize")
            while stream.done < number:
                if not stream.step():
                    assert any(other.step() for other in streams), "a deadlock"


def run_all(chance: random.Random) -> None:
    """Let every stream run to its end."""
    with _lock:
        while any(stream.queue for stream in streams):
            order = chance.sample(streams, len(streams))
            assert any(stream.step() for stream in order), "a deadlock"


def current_device() -> int:
    return getattr(_current, "device", [0])[-1]


class Device:
    def __init__(self, number: int | None = None) -> None:
        self.id = current_device() if number is None else number

    def __enter__(self) -> None:
        _current.device = [*getattr(_current, "device", [0]), self.id]

    def __exit__(self, *_: Any) -> None:
        _current.device = _current.device[:-1]


def get_current_stream() -> Stream:
    return getattr(_current, "stream", null)


@contextmanager
def using(stream: Stream) -> Iterator[None]:
    before, _current.stream = get_current_stream(), stream
    try:
        yield
    finally:
        _current.stream = before


class _Block:
    """What keeps device memory; views of an array share it."""

    def __init__(self, key: tuple, memory: np.ndarray) -> None:
        weakref.finalize(self, freed.setdefault(key, []).append, memory)


class ndarray(np.ndarray):
    __module__ = "cupy"
    __cuda_array_interface__ = property(lambda self: {})  # never read
    device = property(lambda self: SimpleNamespace(id=self.number))  # type: ignore[assignment]
    block: Any = None
    memory: Any = None
    number = 0

    def __array_finalize__(self, base: Any) -> None:
        self.block = getattr(base, "block", None)
        self.memory = getattr(base, "memory", None)
        self.number = getattr(base, "number", current_device())

    def set(self, array: np.ndarray, stream: Stream) -> None:
        assert self.flags.c_contiguous
        assert array.flags.c_contiguous
        assert (self.shape, self.dtype) == (array.shape, array.dtype)
        assert any(block() is not None and np.shares_memory(block(), array) for block in pinned), "not pinned"
        target = bare(self)
        stream.push(lambda: np.copyto(target, array))


def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    key = (get_current_stream().ptr, current_device(), count)
    memory = freed[key].pop() if freed.get(key) else np.full(count, 0xA5, np.uint8)
    array = memory.view(dtype).reshape(shape).view(ndarray)
    array.block, array.memory = _Block(key, memory), memory
    return array


def bare(array: Any) -> np.ndarray:
    """What the device sees of it: its memory, which it does not keep from being freed."""
    return np.ndarray(array.shape, array.dtype, array.memory, strides=array.strides)


def alloc_pinned_memory(size: int) -> np.ndarray:
    block = np.full(size, 0x5A, np.uint8)
    pinned.append(weakref.ref(block))
    return block


null = Stream()


def module() -> Any:
    """What goes into sys.modules."""

    def external(handle: int, device: int = 0) -> Any:
        return using(next(stream for stream in streams if stream.ptr == handle))

    cuda = SimpleNamespace(
        Device=Device, Stream=Stream, Event=Event, ExternalStream=external,
        get_current_stream=get_current_stream, alloc_pinned_memory=alloc_pinned_memory,
    )  # fmt: skip
    return SimpleNamespace(ndarray=ndarray, empty=empty, cuda=cuda)


def forget() -> None:
    """Start anew."""
    for stream in streams:
        stream.queue.clear()
    del streams[1:]
    log.clear()
    pinned.clear()
    freed.clear()
    null.done = null.queued
