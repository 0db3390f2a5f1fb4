"""A stand-in for CuPy whose arrays are NumPy's: what is tested is which device everything is on."""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cnnext import _C

devices = [1]  # the current one last


class ndarray(np.ndarray):
    """An array on a device: mixing it with one of the host's is an error, as in CuPy."""

    __module__ = "cupy"
    number = 0

    device = property(lambda self: SimpleNamespace(id=self.number))
    __cuda_array_interface__ = property(lambda self: {})  # never read

    def __array_finalize__(self, base: Any) -> None:
        self.number = getattr(base, "number", devices[-1])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **how: Any) -> Any:
        if method == "at":
            return NotImplemented
        if any(type(x) is np.ndarray for x in inputs):
            raise TypeError(f"Unsupported type {np.ndarray}")
        plain = [x.view(np.ndarray) if isinstance(x, ndarray) else x for x in inputs]
        out = how.pop("out", None)
        if out:
            how["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*plain, **how)
        if out:
            return out[0]
        made = np.asarray(result).view(ndarray)
        made.number = next(x.number for x in inputs if isinstance(x, ndarray))
        return made

    def __array_function__(self, function: Any, types: Any, args: Any, how: Any) -> Any:
        result = super().__array_function__(function, types, args, how)
        if type(result) is np.ndarray:
            result = result.view(ndarray)
            result.number = self.number
        return result

    def set(self, array: np.ndarray, stream: Any) -> None:
        np.copyto(self.view(np.ndarray), array)

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(value) is np.ndarray and value.ndim:
            raise TypeError(f"Unsupported type {np.ndarray}")
        super().__setitem__(index, value)

    def copy(self, order: str = "C") -> ndarray:
        return asarray(np.array(self.view(np.ndarray), order=order))


class Device:
    def __init__(self, number: int | None = None) -> None:
        self.id = devices[-1] if number is None else number

    def __enter__(self) -> None:
        devices.append(self.id)

    def __exit__(self, *_: Any) -> None:
        devices.pop()


def asarray(values: Any, dtype: Any = None, blocking: bool = False) -> ndarray:
    result = np.array(values, dtype, order="C").view(ndarray)
    result.number = devices[-1]
    return result


def full(shape: tuple[int, ...], value: Any, dtype: Any) -> ndarray:
    return asarray(np.full(shape, value, dtype))


def add_at(out: ndarray, index: Any, values: Any) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    if any(type(part) is np.ndarray for part in (*parts, values)):
        raise TypeError(f"Unsupported type {np.ndarray}")
    bare = tuple(part.view(np.ndarray) if isinstance(part, ndarray) else part for part in parts)
    np.add.at(out.view(np.ndarray), bare, values.view(np.ndarray))


def asnumpy(array: ndarray) -> np.ndarray:
    return np.array(array.view(np.ndarray), order="C")


def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
    return asarray(np.empty(shape, dtype))


class Stream:
    """Nothing is late here; lazy_cupy is for that."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = 7

    def wait_event(self, event: Event) -> None:
        pass


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: Stream | None = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


@pytest.fixture
def computing(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Operations take these arrays: they are computed on the host, and the results are on the device again.

    Arrays of the host among them are an error, as they are for real. The list gets the operations' names.
    """
    ran: list[str] = []

    def numbers(values: Any) -> set[int | None]:
        if isinstance(values, (list, tuple)):
            return set().union(*map(numbers, values)) if values else set()
        if isinstance(values, ndarray):
            return {values.number}
        return {None} if isinstance(values, np.ndarray) else set()

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(plain, value))
        return value.view(np.ndarray) if isinstance(value, ndarray) else value

    def wide(value: Any) -> Any:
        half = isinstance(value, np.ndarray) and value.dtype.itemsize == 2
        return value.astype(np.float32) if half else value

    def narrow(value: Any, dtype: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(narrow(item, dtype) for item in value)
        return value.astype(dtype) if value.dtype == np.float32 else value

    def on_device(value: Any, number: int) -> Any:
        if isinstance(value, tuple):
            return tuple(on_device(item, number) for item in value)
        if type(value) is np.ndarray:
            value = value.view(ndarray)
            value.number = number
        return value

    def wrapped(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            places = numbers(args)
            if not places - {None}:
                return function(*args)
            assert len(places) == 1, f"{name} of arrays on {places}"
            ran.append(name)
            try:
                result = function(*map(plain, args))
            except NotImplementedError:  # CUDA has kernels of 16 bits for more than the CPU
                dtype = next(value.dtype for value in args if isinstance(value, ndarray))
                result = narrow(function(*map(wide, map(plain, args))), dtype)
            return on_device(result, places.pop())

        return call

    for name, function in list(vars(_C).items()):
        if inspect.isroutine(function) and not name.startswith("_"):
            monkeypatch.setattr(_C, name, wrapped(name, function))
    return ran


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    cuda = SimpleNamespace(
        Device=Device, Stream=Stream, Event=Event, get_current_stream=Stream, alloc_pinned_memory=bytearray
    )
    module = SimpleNamespace(
        ndarray=ndarray,
        asarray=asarray,
        asnumpy=asnumpy,
        full=full,
        empty=empty,
        cuda=cuda,
        add=SimpleNamespace(at=add_at),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module
