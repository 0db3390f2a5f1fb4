"""CuPy on the test bed, as far as cnnext and the tests ask anything of it.

Arithmetic is NumPy's, on the bed's memory, once the library's current stream, and that alone, has
done what it was given.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import bed_memory, driver


class Stream:
    def __init__(self, non_blocking: bool = False, inner: Any = None) -> None:
        self.inner = inner or driver.Stream(blocking=not non_blocking)
        self.ptr = self.inner.handle

    def __enter__(self) -> Stream:
        _current.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _current.pop()

    def synchronize(self) -> None:
        self.inner.synchronize()

    @classmethod
    def from_external(cls, stream: Any) -> Stream:
        return cls(inner=SimpleNamespace(handle=stream.__cuda_stream__()[1]))

    def begin_capture(self) -> None:
        self.graph = driver.Graph()
        self.capturing = self.graph.capture(self.inner)
        self.capturing.__enter__()

    def end_capture(self) -> Any:
        self.capturing.__exit__(None, None, None)
        graph = self.graph
        return SimpleNamespace(launch=lambda stream=None: graph.launch((stream or _current[-1]).inner))


Stream.null = Stream(inner=bed_memory.DefaultStream())
_current = [Stream.null]
_HOST_RESULTS = ("item", "tolist")
_VIEWS = ("transpose", "view", "squeeze", "swapaxes")  # for which nobody waits


class ndarray(NDArrayOperatorsMixin):
    """An array on the device: mixing it with one of the host's is an error, as in CuPy."""

    def __init__(self, array: np.ndarray) -> None:
        assert bed_memory.is_on_device(array)
        self._array = array

    device = property(lambda self: Device(0))
    data = property(lambda self: SimpleNamespace(ptr=self._array.ctypes.data))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        shown = {"shape": self.shape, "typestr": self._array.dtype.str, "data": (self.data.ptr, False)}
        return {**shown, "strides": self._array.strides, "version": 3, "stream": _current[-1].ptr or 1}

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        if stream != -1:
            _current[-1].synchronize()
        return bed_memory.capsule(self._array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return bed_memory.DEVICE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **how: Any) -> Any:
        result = _run(getattr(ufunc, method), inputs, how)
        return how["out"][0] if how.get("out") else result

    def __array_function__(self, function: Any, types: Any, args: Any, how: Any) -> Any:
        return _run(function, args, how)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._array, name)
        if not callable(value):
            return ndarray(value) if isinstance(value, np.ndarray) else value

        def method(*args: Any, **how: Any) -> Any:
            if name in _VIEWS:
                return ndarray(value(*args, **how))
            return _run(value, args, how, wrap=name not in _HOST_RESULTS)

        return method

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getitem__(self, index: Any) -> Any:
        return _run(self._array.__getitem__, (index,), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        _run(self._array.__setitem__, (index, value), {})

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())


def _plain(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the host beside one of the device")
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    return value


def _wrapped(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_wrapped, value))
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return ndarray(array if bed_memory.is_on_device(array) else bed_memory.on_device(array))
    return value


def _run(function: Any, args: Any, how: Any, wrap: bool = True) -> Any:
    _current[-1].synchronize()
    result = function(*_plain(tuple(args)), **{k: _plain(v) for k, v in how.items()})
    return _wrapped(result) if wrap else result


class Device:
    def __init__(self, number: int = 0) -> None:
        assert number == 0
        self.id = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def asarray(values: Any, dtype: Any = None, blocking: bool = False) -> ndarray:
    if isinstance(values, ndarray):
        return values if dtype is None else values.astype(dtype)
    if hasattr(values, "__cuda_array_interface__"):
        shown = dict(values.__cuda_array_interface__)
        assert shown.pop("stream", None) is None
        return ndarray(bed_memory.adopted(shown, values))
    return ndarray(bed_memory.on_device(np.asarray(values, dtype)))


def asnumpy(array: ndarray) -> np.ndarray:
    _current[-1].synchronize()
    return array._array.copy("C")  # CuPy's default


def from_dlpack(array: Any) -> ndarray:
    return ndarray(bed_memory.from_dlpack(array, _current[-1].ptr or 1))


def install() -> None:
    """As if somebody had imported it."""
    ndarray.__module__ = "cupy"
    cuda = SimpleNamespace(Device=Device, Stream=Stream, get_current_stream=lambda: _current[-1])
    module: Any = SimpleNamespace(
        ndarray=ndarray,
        asarray=asarray,
        asnumpy=asnumpy,
        empty=lambda shape, dtype: ndarray(bed_memory.empty(shape, dtype)),
        from_dlpack=from_dlpack,
        cuda=cuda,
    )
    sys.modules["cupy"] = module
