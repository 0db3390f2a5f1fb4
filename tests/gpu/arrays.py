"""NumPy's arrays on the device and back, as each kind of array that cnnext takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from cnnext import _C

from . import capsules, driver, libraries

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Interface:
    """Memory of the driver's, gaps between the elements included, shown by __cuda_array_interface__ alone."""

    def __init__(self, array: np.ndarray, stream: int | None = None) -> None:
        self.array, self.stream = array, stream  # the array for its metadata
        self.before = self.start = 0
        if array.size == 0:
            return
        reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
        self.before = -sum(r for r in reach if r < 0)
        count = self.before + sum(r for r in reach if r > 0) + array.itemsize
        self.memory = driver.Memory(count)
        raw = (ctypes.c_uint8 * count).from_address(array.ctypes.data - self.before)
        self.memory.write(np.frombuffer(raw, np.uint8))
        self.start = self.memory.address + self.before

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self.array
        strides = None if array.flags.c_contiguous else array.strides
        shown = {"shape": array.shape, "typestr": array.dtype.str, "data": (self.start, False), "version": 3}
        return {**shown, "strides": strides, "stream": self.stream}

    def numpy(self) -> np.ndarray:
        """What the device holds now."""
        if self.array.size == 0:
            return self.array
        whole = self.memory.read()
        return np.ndarray(self.array.shape, self.array.dtype, whole, self.before, self.array.strides)


class _Bfloat16:
    """An int16 DeviceArray whose capsules say bfloat16, which has no name in __cuda_array_interface__."""

    def __init__(self, bits: Any) -> None:
        self.bits = bits

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        capsule = self.bits.__dlpack__(stream=stream)
        capsules.set_bfloat16(capsule)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.bits.__dlpack_device__()


def device_array(array: np.ndarray) -> Any:
    """The values in memory of cnnext's pool, in the memory format of the array."""
    last = array.ndim in (3, 4) and not array.flags.c_contiguous
    if array.dtype != BFLOAT16:
        return _C.contiguous(Interface(array), last, None)
    return _C.contiguous(_Bfloat16(_C.contiguous(Interface(array.view(np.int16)), last, None)), last, None)


def _interface(array: np.ndarray) -> Any:
    """By the interface; bfloat16, which it has not, by DLPack in the format of the array."""
    return device_array(array) if array.dtype == BFLOAT16 else Interface(array)


@dataclass(frozen=True)
class Kind:
    """A kind of array: how NumPy's are put on the device and results taken back. Both keep the layout."""

    name: str
    put: Callable[[np.ndarray], Any]
    take: Callable[[Any], np.ndarray]
    has_bfloat16: bool = True

    def __str__(self) -> str:
        return self.name

    def put_all(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return {name: self.put(array) for name, array in arrays.items()}


def _own(result: Any) -> np.ndarray:
    assert isinstance(result, _C.DeviceArray | Interface)
    return result.numpy()


INTERFACE = Kind("interface", _interface, _own)
DEVICE_ARRAY = Kind("DeviceArray", device_array, _own)


def _memory_order(array: Any) -> list[int]:
    """Its axes from the slowest to the fastest."""
    return sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis))


def _back(order: list[int]) -> list[int]:
    return [int(axis) for axis in np.argsort(order)]


@cache
def torch_kind() -> Kind | None:
    """torch's tensors, where torch has CUDA; a stand-in's on the test bed."""
    torch = libraries.torch()
    if torch is None:
        return None

    def put(array: np.ndarray) -> Any:
        order = _memory_order(array)
        dense = array.transpose(order).copy()
        bits = dense.view(np.int16) if array.dtype == BFLOAT16 else dense
        tensor = torch.from_numpy(bits).to("cuda:0")
        if array.dtype == BFLOAT16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.permute(_back(order))

    def take(result: Any) -> np.ndarray:
        assert type(result) is torch.Tensor
        assert result.is_cuda
        if result.dtype == torch.bfloat16:
            return result.view(torch.int16).cpu().numpy().view(BFLOAT16)
        return result.cpu().numpy()

    return Kind("torch", put, take)


@cache
def cupy_kind() -> Kind | None:
    """CuPy's arrays, where CuPy is installed; a stand-in's on the test bed."""
    cupy = libraries.cupy()
    if cupy is None:
        return None

    def put(array: np.ndarray) -> Any:
        order = _memory_order(array)
        return cupy.asarray(array.transpose(order).copy()).transpose(_back(order))

    def take(result: Any) -> np.ndarray:
        assert type(result) is cupy.ndarray
        order = _memory_order(result)
        return cupy.asnumpy(result.transpose(order)).transpose(_back(order))

    try:
        put(np.zeros(1, BFLOAT16))
    except (TypeError, ValueError):  # CuPy before 14
        return Kind("cupy", put, take, has_bfloat16=False)
    return Kind("cupy", put, take)


def kinds() -> list[Kind]:
    """All kinds that there are here."""
    return [kind for kind in (INTERFACE, DEVICE_ARRAY, torch_kind(), cupy_kind()) if kind]
