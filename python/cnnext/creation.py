"""Functions that make tensors, and join them.

device: where the tensor is to be, 'cpu', 'cuda' (CuPy's current device) or 'cuda:N'. NotImplementedError
where there is no such device here, ValueError for a number that is none. Random numbers are drawn on the
host, so that a seed gives the same ones on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import elementary as el
from . import random
from .devices import asarray_like, copied_to, copy_of, device_of, is_on_device, parse_device
from .devices import full as full_on
from .dtypes import DEFAULT_DTYPE, is_half, parse_dtype
from .tape import Variable, wrap
from .tensor import Tensor, as_array
from .tensor_math import as_axis


def _make(data: Any, requires_grad: bool, device: Any = None) -> Tensor:
    result = wrap(data if device is None else copied_to(data, parse_device(device)))
    return result.requires_grad_() if requires_grad else result


def _full(shape: tuple[int, ...], value: Any, dtype: Any, requires_grad: bool, device: Any) -> Tensor:
    place = "cpu" if device is None else parse_device(device)
    return _make(full_on(place, shape, value, dtype), requires_grad)


def _shape(size: tuple) -> tuple[int, ...]:
    size = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 for n in size):
        raise ValueError(f"size must be non-negative ints, got {size!r}")
    return size


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, *, device: Any = None) -> Tensor:
    """A tensor with a copy of `data`; Python floats become float32, ints int64 (torch.tensor).

    Without a device it is where `data` is, lists on the host.
    """
    array = as_array(data, None if dtype is None else parse_dtype(dtype))
    if device is not None and parse_device(device) != device_of(array):
        return _make(array, requires_grad, device)  # a copy by itself
    return _make(copy_of(array), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory (torch.from_numpy)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    return wrap(as_array(array))


def zeros(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros of a size."""
    return _full(_shape(size), 0, parse_dtype(dtype), requires_grad, device)


def ones(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Ones of a size."""
    return _full(_shape(size), 1, parse_dtype(dtype), requires_grad, device)


def full(
    size: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False, *, device: Any = None
) -> Tensor:
    """One value everywhere; its type gives the dtype: float32, int64 or bool."""
    kind = np.asarray(fill_value).dtype
    dtype = (DEFAULT_DTYPE if kind.kind == "f" else kind) if dtype is None else parse_dtype(dtype)
    shape = _shape((size,) if isinstance(size, int) else tuple(size))
    return _full(shape, fill_value, dtype, requires_grad, device)


def _dtype_like(dtype: Any) -> Any:
    return None if dtype is None else parse_dtype(dtype)


def zeros_like(x: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Zeros with the shape and memory format of x, and where it is."""
    return _make(np.zeros_like(as_array(x), dtype=_dtype_like(dtype)), False, device)


def ones_like(x: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones with the shape and memory format of x, and where it is."""
    return _make(np.ones_like(as_array(x), dtype=_dtype_like(dtype)), False, device)


def arange(
    start: float, end: float | None = None, step: float = 1, dtype: Any = None, *, device: Any = None
) -> Tensor:
    """start, start + step, ... below end; int64 from ints, else float32."""
    start, end = (0, start) if end is None else (start, end)
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    dtype = parse_dtype(dtype) if dtype is not None else np.dtype(np.int64) if whole else DEFAULT_DTYPE
    return _make(np.arange(start, end, step).astype(dtype), False, device)


def _drawn(draw: Any, size: tuple, dtype: Any) -> np.ndarray:
    """The generator's float32 or float64, rounded for 16 bits."""
    dtype = parse_dtype(dtype)
    drawn = draw(_shape(size), DEFAULT_DTYPE if is_half(dtype) else dtype)
    return np.asarray(drawn).astype(dtype, copy=False)


def rand(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uniform in [0, 1), from the generator of manual_seed."""
    return _make(_drawn(random.generator().random, size, dtype), requires_grad, device)


def randn(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Standard normal, from the generator of manual_seed."""
    return _make(_drawn(random.generator().standard_normal, size, dtype), requires_grad, device)


def randint(low: int, high: int, size: Sequence[int], dtype: Any = np.int64, *, device: Any = None) -> Tensor:
    """Integers of [low, high), from the generator of manual_seed."""
    drawn = random.generator().integers(low, high, _shape(tuple(size)), parse_dtype(dtype))
    return _make(drawn, False, device)


def randperm(n: int, *, device: Any = None) -> Tensor:
    """A random order of 0 to n - 1, from the generator of manual_seed."""
    return _make(random.generator().permutation(n), False, device)


# ---- joining ----


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors one after the other along dim (torch.cat)."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: the list of tensors is empty")
    return el.concatenate(*tensors, dim=as_axis(dim, tensors[0].ndim))


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape, side by side along a new dimension (torch.stack)."""
    return cat([(t if isinstance(t, Variable) else wrap(as_array(t))).unsqueeze(dim) for t in tensors], dim)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where condition, else y (torch.where); a Python number takes the other side's dtype."""
    dtype = next((v.dtype for v in (x, y) if hasattr(v, "dtype")), DEFAULT_DTYPE)
    arrays = (v.data if isinstance(v, Variable) else v for v in (condition, x, y))
    like = next(filter(is_on_device, arrays), None)  # a number goes where the arrays are
    x, y = (v if hasattr(v, "dtype") else asarray_like(v, like, dtype) for v in (x, y))
    return el.where(condition, x, y)
