"""What the stand-ins for torch and CuPy share: NumPy's arrays over the bed's memory, and DLPack."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from . import capsules, driver

DEVICE = (capsules.CUDA, 0)


class _Owner:
    """What a NumPy array over device memory is based on."""

    def __init__(self, count: int) -> None:
        self.memory = driver.Memory(max(count, 1))
        self.__array_interface__ = {
            "shape": (count,),
            "typestr": "|u1",
            "data": (self.memory.address, False),
            "version": 3,
        }


def empty(shape: Any, dtype: Any) -> np.ndarray:
    """New device memory, row-major."""
    dtype = np.dtype(dtype)
    flat = np.asarray(_Owner(int(np.prod(shape)) * dtype.itemsize))
    return flat.view(dtype).reshape(shape)


def on_device(array: Any) -> np.ndarray:
    """A copy of a host array, row-major."""
    array = np.asarray(array)
    made = empty(array.shape, array.dtype)
    made[...] = array
    return made


def is_on_device(array: np.ndarray) -> bool:
    """Whether its memory is the device's."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, _Owner)


def capsule(array: np.ndarray) -> Any:
    """NumPy's DLPack capsule, that says where the memory is; of bfloat16 too, which NumPy has not."""
    is_bfloat16 = array.dtype.kind == "V"
    made = (array.view(np.int16) if is_bfloat16 else array).__dlpack__()
    capsules.set_device(made, capsules.CUDA)
    if is_bfloat16:
        capsules.set_bfloat16(made)
    return made


class _Taken:
    """An array over another's capsule, as if it were the host's, which the bed's is."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def __dlpack__(self, **_: Any) -> Any:
        capsules.set_device(self.made, capsules.CPU)
        return self.made

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(array: Any, stream: int) -> np.ndarray:
    """A view of another library's array, for work on that stream (DLPack's number)."""
    assert array.__dlpack_device__() == DEVICE
    made = array.__dlpack__(stream=stream)
    is_bfloat16 = capsules.unset_bfloat16(made)
    taken = np.from_dlpack(_Taken(made))
    view = adopted({**taken.__array_interface__, "data": (taken.ctypes.data, False)}, taken)
    return view.view(ml_dtypes.bfloat16) if is_bfloat16 else view


def adopted(shown: dict[str, Any], keep: Any) -> np.ndarray:
    """An array by an interface of another library's, whose memory `keep` holds; known as the device's."""
    owner = _Owner.__new__(_Owner)
    owner.memory = keep
    owner.__array_interface__ = shown
    return np.asarray(owner)


class DefaultStream:
    """The legacy default stream."""

    handle = 0

    def synchronize(self) -> None:
        driver.synchronize()
