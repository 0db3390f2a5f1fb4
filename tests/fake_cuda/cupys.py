"""A stand-in for CuPy whose arrays are NumPy's: what is tested is which device everything is on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

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


def asnumpy(array: ndarray) -> np.ndarray:
    return np.array(array.view(np.ndarray), order="C")


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = SimpleNamespace(
        ndarray=ndarray, asarray=asarray, asnumpy=asnumpy, full=full, cuda=SimpleNamespace(Device=Device)
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module
