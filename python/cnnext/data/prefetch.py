"""Batches on a CUDA device, one ahead of the step that runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ._pinned import PinnedBuffer, PinnedCopies

__all__ = ["prefetched"]

_BUFFERS = 3  # one is being filled, one is full, one is being copied from
_UNDER_WAY = 2  # copies: of the batch that is handed out, and of the next


def prefetched(
    batches: Iterator[tuple[np.ndarray, ...]], device: str
) -> Generator[tuple[Any, ...], None, None]:
    """The batches as CuPy arrays on `device`, in their order.

    A thread makes the batches and puts them into pinned memory, at most three ahead. The copy of the next one
    runs on a stream of its own beside the step on the current one; the stream that computes waits for it on
    the device, never the host. The arrays are the caller's to keep. What the making of a batch raises is
    raised here, behind the batches before it.
    """
    copies = PinnedCopies(device)
    buffers = [PinnedBuffer(copies) for _ in range(_BUFFERS)]
    maker = _Maker(batches, buffers)
    coming: deque[Any] = deque()
    end = None
    try:
        while True:
            # Before the step on the current batch is queued: the next one's copy need not wait for that.
            while end is None and len(coming) < _UNDER_WAY:
                try:
                    buffer, error = maker.full.get(block=not coming)
                except Empty:
                    break  # not made yet: the step shall not wait for it
                if buffer is None:
                    end = (error,)
                else:
                    coming.append(copies.start(buffer))
                    maker.free.put(buffer)
            if not coming:
                break
            yield copies.finish(coming.popleft())
        if end is not None and end[0] is not None:
            raise end[0]
    finally:
        maker.stop()
        for buffer in buffers:
            buffer.wait()  # neither it nor what is copied to may be freed before


class _Maker:
    """The thread that makes the batches. `full` gets (buffer, None), at the end (None, error or None)."""

    def __init__(self, batches: Iterator[tuple[np.ndarray, ...]], buffers: list[PinnedBuffer]) -> None:
        self.free: SimpleQueue = SimpleQueue()
        self.full: SimpleQueue = SimpleQueue()
        self._stopped = False
        for buffer in buffers:
            self.free.put(buffer)
        self._thread = threading.Thread(target=self._run, args=(batches,), name="cnnext.data", daemon=True)
        self._thread.start()

    def _run(self, batches: Iterator[tuple[np.ndarray, ...]]) -> None:
        error = None
        try:
            while True:
                buffer = self.free.get()
                if self._stopped:
                    return
                batch = next(batches, None)
                if batch is None:
                    break
                buffer.fill(batch)
                self.full.put((buffer, None))
        except BaseException as raised:  # for the thread that asked for the batches
            error = raised
        self.full.put((None, error))

    def stop(self) -> None:
        """Make no more batches; returns when none is being made."""
        self._stopped = True
        self.free.put(None)
        self._thread.join()
