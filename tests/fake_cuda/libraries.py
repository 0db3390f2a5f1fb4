"""torch, CuPy and JAX as far as cnnext asks anything of them, on fake_cuda's devices."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from arrays import Capsules, Interface

current = {"torch": 501, "cupy": 601}  # each library's current stream
devices: list[int] = [0]


@contextmanager
def _stream(library: str, handle: int) -> Iterator[None]:
    before, current[library] = current[library], handle
    try:
        yield
    finally:
        current[library] = before


# ---- torch


class Tensor(Interface):
    is_cuda, requires_grad, negated, layout = True, False, False, "strided"

    def __init__(self, array: np.ndarray, device: int = 0) -> None:
        super().__init__(array, device)
        self.number, self.stream = device, current["torch"]
        self.shape, self.dtype = array.shape, array.dtype.name

    def is_neg(self) -> bool:
        return self.negated

    def resolve_neg(self) -> Tensor:
        return Tensor(-self.array, self.number)

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def data_ptr(self) -> int:
        return self.address

    def get_device(self) -> int:
        return self.number


def _empty_strided(shape: Any, strides: Any, dtype: str, device: str) -> Tensor:
    itemsize = np.dtype(dtype).itemsize
    base = np.zeros(int(np.prod(shape)), dtype)
    view = np.ndarray(shape, dtype, base, 0, [step * itemsize for step in strides])
    return Tensor(view, int(device.removeprefix("cuda:")))


torch = SimpleNamespace(
    Tensor=Tensor,
    strided="strided",
    float32="float32",
    float16="float16",
    empty_strided=_empty_strided,
    cuda=SimpleNamespace(
        current_stream=lambda device: SimpleNamespace(cuda_stream=current["torch"] + device),
        default_stream=lambda device: 0,
        ExternalStream=lambda handle, device: handle,
        stream=lambda handle: _stream("torch", handle),
    ),
)


# ---- CuPy


class ndarray(Capsules):
    __module__ = "cupy"


class CupyResult(ndarray):
    def __init__(self, result: Interface, axes: list[int] | None = None) -> None:
        self.result, self.axes, self.stream = result, axes, current["cupy"]
        self.data = SimpleNamespace(ptr=result.address)

    def transpose(self, axes: list[int]) -> CupyResult:
        view = CupyResult(self.result, axes)
        view.stream = self.stream
        return view

    def numpy(self) -> np.ndarray:
        return self.result.numpy().transpose(self.axes)


@contextmanager
def _device(number: int) -> Iterator[None]:
    devices.append(number)
    try:
        yield
    finally:
        devices.pop()


def _empty(shape: list[int], dtype: Any) -> CupyResult:
    return CupyResult(Interface(np.zeros(shape, dtype), devices[-1]))


class Null:
    def __enter__(self) -> None:
        self.before, current["cupy"] = current["cupy"], 0

    def __exit__(self, *_: Any) -> None:
        current["cupy"] = self.before


cupy = SimpleNamespace(
    ndarray=ndarray,
    empty=_empty,
    cuda=SimpleNamespace(
        Device=_device,
        Stream=SimpleNamespace(
            null=Null(), from_external=lambda stream: _stream("cupy", stream.__cuda_stream__()[1])
        ),
        ExternalStream=lambda handle, device: _stream("cupy", handle),
        get_current_stream=lambda: SimpleNamespace(ptr=current["cupy"] + devices[-1]),
    ),
)


# ---- JAX


class Array(Capsules):
    __module__ = "jaxlib.fake"


def _from_dlpack(array: Any) -> Any:
    return SimpleNamespace(taken=array, capsule=array.__dlpack__(stream=701, max_version=(1, 0)))


def install(put: Callable[[dict, str, Any], None]) -> None:
    """As if somebody had imported them."""
    put(sys.modules, "torch", torch)
    put(sys.modules, "cupy", cupy)
    put(sys.modules, "jax", SimpleNamespace())
    put(sys.modules, "jax.dlpack", SimpleNamespace(from_dlpack=_from_dlpack))
