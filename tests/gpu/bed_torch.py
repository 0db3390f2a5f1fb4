"""torch on the test bed, as far as the tests ask anything of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

from . import bed_memory, driver

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_NAMES = ["float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "int32", "int64"]
_TYPES = {name: np.dtype(name) for name in _NAMES} | {"bfloat16": BFLOAT16}


class Stream:
    def __init__(self, inner: Any = None) -> None:
        self.inner = inner or driver.Stream()
        self.cuda_stream = self.inner.handle

    def synchronize(self) -> None:
        self.inner.synchronize()

    def wait_stream(self, other: Stream) -> None:
        other.synchronize()


_DEFAULT = Stream(bed_memory.DefaultStream())
_current = [_DEFAULT]


@contextmanager
def _stream(stream: Stream) -> Iterator[None]:
    _current.append(stream)
    try:
        yield
    finally:
        _current.pop()


class Tensor:
    requires_grad, layout = False, "strided"

    def __init__(self, array: np.ndarray, is_cuda: bool) -> None:
        self.array, self.is_cuda = array, is_cuda

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype.name)
    device = property(lambda self: SimpleNamespace(type="cuda" if self.is_cuda else "cpu", index=0))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if not self.is_cuda or self.dtype == "bfloat16":
            raise AttributeError("no __cuda_array_interface__")
        shown = {"shape": self.shape, "typestr": self.array.dtype.str, "data": (self.data_ptr(), False)}
        return {**shown, "strides": self.array.strides, "version": 2}

    def is_neg(self) -> bool:
        return False

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def get_device(self) -> int:
        return 0

    def to(self, device: str) -> Tensor:
        assert device == "cuda:0"
        return Tensor(bed_memory.on_device(self.array), True)

    def cpu(self) -> Tensor:
        _current[-1].synchronize()
        return Tensor(self.array.copy("K"), False)

    def numpy(self) -> np.ndarray:
        assert not self.is_cuda
        return self.array

    def view(self, dtype: str) -> Tensor:
        return Tensor(self.array.view(_TYPES[dtype]), self.is_cuda)

    def permute(self, axes: list[int]) -> Tensor:
        return Tensor(self.array.transpose(axes), self.is_cuda)

    def reshape(self, shape: tuple[int, ...]) -> Tensor:
        _current[-1].synchronize()
        array = self.array if self.array.flags.c_contiguous else bed_memory.on_device(self.array)
        return Tensor(array.reshape(shape), self.is_cuda)

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor(self.array[index], self.is_cuda)

    def copy_(self, other: Tensor) -> Tensor:
        _current[-1].synchronize()
        self.array[...] = other.array
        return self

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        if stream not in (None, -1):
            _current[-1].synchronize()
        return bed_memory.capsule(self.array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return bed_memory.DEVICE if self.is_cuda else (1, 0)


def _empty_strided(shape: Any, strides: Any, dtype: str, device: str) -> Tensor:
    assert device == "cuda:0"
    kind = _TYPES[dtype]
    flat = bed_memory.empty((int(np.prod(shape)),), kind)
    steps = [step * kind.itemsize for step in strides]
    return Tensor(np.lib.stride_tricks.as_strided(flat, shape, steps), True)


def _from_dlpack(array: Any) -> Tensor:
    return Tensor(bed_memory.from_dlpack(array, _current[-1].cuda_stream or 1), True)


class CUDAGraph:
    def __init__(self) -> None:
        self.inner = driver.Graph()

    def replay(self) -> None:
        self.inner.launch(_current[-1].inner)


@contextmanager
def _graph(graph: CUDAGraph) -> Iterator[None]:
    driver.synchronize()
    side = Stream()
    with _stream(side), graph.inner.capture(side.inner):
        yield


def install() -> None:
    """As if somebody had imported it."""
    cuda = SimpleNamespace(
        is_available=lambda: True,
        Stream=Stream,
        current_stream=lambda device=None: _current[-1],
        default_stream=lambda device=None: _DEFAULT,
        ExternalStream=lambda handle, device=None: Stream(SimpleNamespace(handle=handle)),
        stream=_stream,
        synchronize=driver.synchronize,
        CUDAGraph=CUDAGraph,
        graph=_graph,
    )
    module: Any = SimpleNamespace(
        Tensor=Tensor,
        strided="strided",
        **{name: name for name in _TYPES},
        empty_strided=_empty_strided,
        from_numpy=lambda array: Tensor(array, False),
        from_dlpack=_from_dlpack,
        cuda=cuda,
    )
    sys.modules["torch"] = module
