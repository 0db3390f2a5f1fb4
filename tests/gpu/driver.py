"""CUDA's driver, by ctypes: memory, streams and graphs without a library of arrays.

On a GPU the functions are libcuda's; on the test bed those of tests/cuda_host/driver.cpp.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any

import numpy as np

from . import ON_BED

_ARGUMENTS = {
    "cuInit": [c_uint],
    "cuDevicePrimaryCtxRetain": [c_void_p, c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuCtxSynchronize": [],
    "cuGetErrorString": [c_int, c_void_p],
    "cuMemGetInfo_v2": [c_void_p, c_void_p],
    "cuMemAlloc_v2": [c_void_p, c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoD_v2": [c_uint64, c_void_p, c_size_t],
    "cuMemcpyDtoH_v2": [c_void_p, c_uint64, c_size_t],
    "cuMemcpyDtoDAsync_v2": [c_uint64, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [c_void_p, c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, c_void_p],
    "cuGraphInstantiateWithFlags": [c_void_p, c_void_p, c_uint64],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphDestroy": [c_void_p],
}


#: What copy_late gives a stream to do first: on a GPU some milliseconds. The test bed puts off anything.
_MUCH, _TIMES = (64, 1) if ON_BED else (256 << 20, 40)


@cache
def _driver() -> ctypes.CDLL:
    """The driver, with device 0's primary context current: what the CUDA runtime uses too."""
    library = ctypes.CDLL(os.environ.get("CNNEXT_CUDA_DRIVER", "libcuda.so.1"))
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    assert library.cuInit(0) == 0
    context = c_void_p()
    assert library.cuDevicePrimaryCtxRetain(byref(context), 0) == 0
    assert library.cuCtxSetCurrent(context) == 0
    return library


def _call(name: str, *arguments: Any) -> None:
    error = getattr(_driver(), name)(*arguments)
    if error:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(error, byref(text))
        raise RuntimeError(f"{name}: {(text.value or b'?').decode()} ({error})")


def synchronize() -> None:
    """Waits for all of the device's work."""
    _call("cuCtxSynchronize")


def shuffle(seed: int) -> None:
    """On the test bed, blocks and threads run in an order drawn by this seed; 0: in order."""
    if ON_BED:
        _driver().cnnext_cuda_host_order(ctypes.c_uint64(seed))


def free_bytes() -> int:
    """The device's free memory."""
    free, total = c_size_t(), c_size_t()
    _call("cuMemGetInfo_v2", byref(free), byref(total))
    return free.value


class Memory:
    """Bytes on the device."""

    def __init__(self, count: int) -> None:
        address = c_uint64()
        _call("cuMemAlloc_v2", byref(address), count)
        self.address, self.bytes = address.value, count

    def __del__(self) -> None:
        if hasattr(self, "address"):
            _call("cuMemFree_v2", self.address)

    def write(self, host: np.ndarray) -> None:
        """Copies a contiguous array's bytes to the beginning. They are there for every stream."""
        assert host.flags.c_contiguous
        assert host.nbytes <= self.bytes
        _call("cuMemcpyHtoD_v2", self.address, host.ctypes.data, host.nbytes)
        _call("cuStreamSynchronize", None)  # of pageable memory a part may still be under way

    def read(self) -> np.ndarray:
        """The bytes, when all work is done."""
        synchronize()
        host = np.empty(self.bytes, np.uint8)
        _call("cuMemcpyDtoH_v2", host.ctypes.data, self.address, self.bytes)
        return host


def copy_late(address: int, array: np.ndarray, stream: int) -> tuple[Memory, ...]:
    """Queues on a stream (its handle) much work, and then that the array's bytes are copied to the address.

    Returns what must live until that has been done.
    """
    much, source = Memory(2 * _MUCH), Memory(array.nbytes)
    source.write(array)
    for _ in range(_TIMES):
        _call("cuMemcpyDtoDAsync_v2", much.address, much.address + _MUCH, _MUCH, stream)
    _call("cuMemcpyDtoDAsync_v2", address, source.address, array.nbytes, stream)
    return much, source


class Stream:
    """A stream of device 0, a plain cudaStream_t to libraries that know of __cuda_stream__."""

    def __init__(self, blocking: bool = False) -> None:
        handle = c_void_p()
        _call("cuStreamCreate", byref(handle), 0 if blocking else 1)
        self.handle = handle.value

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle

    def synchronize(self) -> None:
        _call("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """To be called once nothing made on it is left."""
        _call("cuStreamDestroy_v2", self.handle)


class Graph:
    """What was queued on a stream within `with graph.capture(stream)`, to be launched again and again."""

    def __init__(self) -> None:
        self._graph, self._runnable = c_void_p(), c_void_p()

    @contextmanager
    def capture(self, stream: Stream) -> Iterator[None]:
        gc.collect()  # nothing else may be freed while it lasts
        _call("cuStreamBeginCapture_v2", stream.handle, 0)  # global: no thread may do what cannot be captured
        try:
            yield
        finally:
            _call("cuStreamEndCapture", stream.handle, byref(self._graph))
        _call("cuGraphInstantiateWithFlags", byref(self._runnable), self._graph, 0)

    def launch(self, stream: Stream) -> None:
        _call("cuGraphLaunch", self._runnable, stream.handle)

    def close(self) -> None:
        """To be called once its launches are done."""
        _call("cuGraphExecDestroy", self._runnable)
        _call("cuGraphDestroy", self._graph)
