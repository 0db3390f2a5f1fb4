"""Arrays on fake_cuda's devices: memory that only that library may touch, shown as other libraries do."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cnnext import _C

fake = ctypes.CDLL(os.environ["CNNEXT_CUDA_LIBRARY"])
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
fake.fake_alloc.restype, fake.fake_alloc.argtypes = _POINTER, [ctypes.c_int, _SIZE]
fake.fake_free.restype, fake.fake_free.argtypes = None, [_POINTER]
fake.fake_write.restype, fake.fake_write.argtypes = None, [_POINTER, _POINTER, _SIZE]
fake.fake_read.restype, fake.fake_read.argtypes = None, [_POINTER, _POINTER, _SIZE]
fake.fake_limit.restype, fake.fake_limit.argtypes = None, [_SIZE]
fake.fake_in_use.restype = _SIZE
fake.fake_log.restype = ctypes.c_char_p


def log() -> list[str]:
    """What fake_cuda did since the last call."""
    return fake.fake_log().decode().splitlines()


def names(lines: list[str]) -> list[str]:
    """The first word of each line."""
    return [line.split()[0] for line in lines]


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No memory, device or stream outlives a test."""
    log()
    yield
    gc.collect()
    fake.fake_limit(1 << 30)
    assert fake.fake_in_use() == 0
    assert fake.fake_current() == 0
    assert _C.get_cuda_stream() is None


RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
Y = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
RELU = np.maximum(X, 0)
LAST = np.moveaxis(np.moveaxis(X, 1, -1).copy(), -1, 1)  # channels-last


class Memory:
    """The bytes of a NumPy array, gaps between its elements included, on a device."""

    def __init__(self, array: np.ndarray, device: int) -> None:
        reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
        self.before = -sum(r for r in reach if r < 0)
        self.bytes = self.before + sum(r for r in reach if r > 0) + array.itemsize
        self.start = fake.fake_alloc(device, self.bytes)
        assert self.start
        fake.fake_write(self.start, array.ctypes.data - self.before, self.bytes)

    def __del__(self) -> None:
        fake.fake_free(self.start)

    def read(self) -> np.ndarray:
        """The bytes, on the host."""
        host = np.empty(self.bytes, np.uint8)
        fake.fake_read(host.ctypes.data, self.start, self.bytes)
        return host


class Interface:
    """An array that shows itself by __cuda_array_interface__ alone."""

    def __init__(self, array: np.ndarray, device: int = 0, **more: Any) -> None:
        self.array = array  # its metadata
        self.memory = Memory(array, device) if array.size else None
        self.more = more

    @property
    def address(self) -> int:
        return self.memory.start + self.memory.before if self.memory else 0

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self.array
        strides = None if array.flags.c_contiguous else array.strides
        interface = {"shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False)}
        return {**interface, "version": 3, "strides": strides, **self.more}

    def numpy(self) -> np.ndarray:
        """What the device holds now."""
        memory = self.memory
        return np.ndarray(
            self.array.shape, self.array.dtype, memory.read(), memory.before, self.array.strides
        )


def device_array(array: np.ndarray, device: int = 0) -> Any:
    """The same values in memory of cnnext's pool."""
    return _C.contiguous(Interface(array, device), False, None)


class Capsules:
    """An array that shows itself by __dlpack__ alone, of DLPack 1.0 or before it."""

    def __init__(self, array: np.ndarray, device: int = 0, versioned: bool = True) -> None:
        self.inner, self.versioned, self.streams = device_array(array, device), versioned, []

    def __dlpack__(self, *, stream: int | None = None, **how: Any) -> Any:
        if how and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        return self.inner.__dlpack__(stream=-1, **how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.inner.__dlpack_device__()
