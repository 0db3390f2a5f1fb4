"""Where arrays lie: NumPy's on the host, CuPy's on CUDA devices; and the copies between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from . import _C

_KINDS = ("cpu", "cuda", "mps", "xpu", "gpu")


def names_device(text: Any) -> bool:
    """Does it look like torch's name of a device? As for a string that may name a dtype too."""
    return isinstance(text, str) and text.split(":")[0] in _KINDS


def is_on_device(array: Any) -> bool:
    """Is it an array on a CUDA device?"""
    return type(array) is not np.ndarray and hasattr(array, "__cuda_array_interface__")


def cuda_name(device: Any) -> Any:
    """What .cuda(device) means: a number, a name, or None for CuPy's current device."""
    return "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device


def device_of(array: Any) -> str:
    """'cpu', or 'cuda:N' for a CuPy array."""
    return f"cuda:{array.device.id}" if is_on_device(array) else "cpu"


def import_cupy() -> Any:
    """CuPy, or an ImportError that names what brings it."""
    try:
        import cupy
    except ImportError:
        raise ImportError(
            "tensors on CUDA are CuPy's: pip install 'cnnext[cuda13]' (or 'cnnext[cuda12]', by the driver)"
        ) from None
    return cupy


def parse_device(device: Any) -> str:
    """'cpu' or 'cuda:N' from what names a device as in torch; 'cuda' is CuPy's current one."""
    name = str(device)
    if name == "cpu":
        return name
    kind, colon, number = name.partition(":")
    if kind != "cuda" or bool(colon) is not number.isdecimal():
        raise NotImplementedError(f"device {name!r} is not supported: tensors live on 'cpu' and 'cuda'")
    if not _C.cuda_available():
        raise NotImplementedError(f"device {name!r} is not supported here: {_C.cuda_reason()}")
    if not number:
        return f"cuda:{import_cupy().cuda.Device().id}"
    if int(number) >= len(_C.cuda_devices()):
        raise ValueError(f"device {name!r} does not exist; there are {len(_C.cuda_devices())} CUDA devices")
    return f"cuda:{int(number)}"


def current(device: str) -> AbstractContextManager:
    """A context in which a device that parse_device() names is CuPy's current one; nothing for 'cpu'."""
    return nullcontext() if device == "cpu" else import_cupy().cuda.Device(_number(device))


def copied_to(array: Any, device: str) -> Any:
    """The array on a device that parse_device() names: itself where it is there, else a copy in its order."""
    if device_of(array) == device:
        return array
    cupy = import_cupy()
    if device == "cpu":
        return _in_memory_order(array, cupy.asnumpy)
    with current(device):
        if is_on_device(array):
            return array.copy(order="K")  # onto the current device
        # CuPy returns before it has read pinned memory, which the caller may change.
        return _in_memory_order(array, partial(cupy.asarray, blocking=True))


def full(device: str, shape: tuple[int, ...], value: Any, dtype: Any) -> Any:
    """An array of one value, made on a device that parse_device() names."""
    if device == "cpu":
        plain_zero = type(value) is int and value == 0
        return np.zeros(shape, dtype) if plain_zero else np.full(shape, value, dtype)  # untouched pages
    with current(device):
        return import_cupy().full(shape, value, dtype)


def two_devices(arrays: Sequence[Any], names: Sequence[str]) -> str | None:
    """What is wrong with arrays on more than one device, naming two of them; None where that is not it.

    Host arrays of one element count as numbers.
    """
    found: dict[str, tuple[str, Any]] = {}
    for array, name in zip(arrays, names, strict=False):
        if is_on_device(array) or (isinstance(array, np.ndarray) and array.ndim):
            found.setdefault(device_of(array), (name, array))
    if len(found) < 2:
        return None
    (one, (first, _)), (two, (second, array)) = list(found.items())[:2]
    one, two = ("the CPU" if device == "cpu" else device for device in (one, two))
    return (
        f"{second} is on {two}, but {first} is on {one}: move one of them with .to() "
        f"({second} is {array.dtype} {tuple(array.shape)})"
    )


def copy_of(array: Any, order: str = "K") -> Any:
    """A copy where the array is; CuPy's own goes to its current device."""
    with current(device_of(array)):
        return array.copy(order=order)


def as_cupy(array: Any) -> Any:
    """A CuPy array over the memory of any array on a CUDA device."""
    if type(array).__module__.split(".")[0] == "cupy":
        return array
    cupy = import_cupy()
    return cupy.from_dlpack(array) if hasattr(array, "__dlpack__") else cupy.asarray(array)


def asarray_like(value: Any, array: Any, dtype: Any) -> Any:
    """A number, a list or an array with `dtype`, where `array` is."""
    if type(array) is np.ndarray or not is_on_device(array):
        return np.asarray(value, dtype)
    with current(device_of(array)):
        return import_cupy().asarray(value, dtype)


def add_at(out: Any, index: Any, values: Any) -> None:
    """out[index] += values, where an index may name an element twice; CuPy's ufuncs have no NumPy `at`."""
    (import_cupy() if is_on_device(out) else np).add.at(out, index, values)


def _number(device: str) -> int:
    return int(device.removeprefix("cuda:"))


def _in_memory_order(array: Any, convert: Callable) -> Any:
    """convert(array) for one that keeps row-major order alone, such as channels last."""
    order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], axis))
    return convert(array.transpose(order)).transpose(np.argsort(order).tolist())
