"""Copies from pinned memory to a CUDA device on a stream of their own: all that the loader asks of CuPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _C
from .._device import cupy_stream
from ..devices import import_cupy


class PinnedBuffer:
    """Host memory that the device reads by itself, for one batch. One thread at a time may have it."""

    def __init__(self, copies: PinnedCopies) -> None:
        self._copies = copies
        self._memory: list[np.ndarray] = []  # bytes, one block an array of a batch
        self.views: list[np.ndarray] = []  # what was filled in, axes in the order of memory
        self.orders: list[list[int]] = []
        self.copied: Any = None  # the event behind the last copy out of it

    def fill(self, arrays: Sequence[np.ndarray]) -> None:
        """Take over a batch, as soon as the last copy out of here is done."""
        self.wait()
        self.views, self.orders = [], []
        for i, array in enumerate(arrays):
            # Axes as they lie, so that a dense array is dense on the device in the same order.
            order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], axis))
            source = array.transpose(order)
            if i == len(self._memory):
                self._memory.append(np.empty(0, np.uint8))
            if self._memory[i].nbytes < source.nbytes:
                self._memory[i] = self._copies.pinned_bytes(source.nbytes)
            view = self._memory[i][: source.nbytes].view(source.dtype).reshape(source.shape)
            view[...] = source
            self.views.append(view)
            self.orders.append(order)

    def wait(self) -> None:
        """Until nothing reads it any more."""
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None


class PinnedCopies:
    """A stream beside the one that computes, on a device that parse_device() names."""

    def __init__(self, device: str) -> None:
        self._cupy = import_cupy()
        self._number = int(device.removeprefix("cuda:"))
        with self._device():
            self._stream = self._cupy.cuda.Stream(non_blocking=True)

    def _device(self) -> Any:
        return self._cupy.cuda.Device(self._number)

    def _computing(self) -> Any:
        """A context in which CuPy's current stream is the one that cnnext's calls are queued on."""
        return cupy_stream(self._cupy, self._number, _C.get_cuda_stream())

    def pinned_bytes(self, size: int) -> np.ndarray:
        """A block of pinned memory."""
        with self._device():
            return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(size), np.uint8, size)

    def start(self, buffer: PinnedBuffer) -> tuple[Any, ...]:
        """Queue the copy of what is in the buffer, for finish(); arrays that are not to be touched before."""
        cuda = self._cupy.cuda
        with self._device(), self._computing():
            # Memory of the computing stream, so that it may be freed at any time after finish(). What that
            # stream still does with it, for those who had it before, comes first.
            arrays = [self._cupy.empty(view.shape, view.dtype) for view in buffer.views]
            made = cuda.Event(disable_timing=True)
            made.record()
            self._stream.wait_event(made)
            for array, view in zip(arrays, buffer.views, strict=True):
                array.set(view, stream=self._stream)
            buffer.copied = cuda.Event(disable_timing=True)
            buffer.copied.record(self._stream)
        back = [np.argsort(order).tolist() for order in buffer.orders]
        seen = tuple(array.transpose(axes) for array, axes in zip(arrays, back, strict=True))
        return seen, buffer.copied

    def finish(self, copy: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arrays of a started copy: what is queued from now on waits for it, on the device."""
        arrays, copied = copy
        with self._device(), self._computing():
            self._cupy.cuda.get_current_stream().wait_event(copied)
        return arrays
