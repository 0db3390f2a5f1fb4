"""Functions that make tensors, and join them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import elementary as el
from . import random
from .tape import Variable, wrap
from .tensor import Tensor, as_array, parse_dtype
from .tensor_math import DEFAULT_DTYPE, as_axis


def _make(data: Any, requires_grad: bool) -> Tensor:
    result = wrap(data)
    return result.requires_grad_() if requires_grad else result


def _shape(size: tuple) -> tuple[int, ...]:
    size = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 for n in size):
        raise ValueError(f"size must be non-negative ints, got {size!r}")
    return size


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`; Python floats become float32, ints int64 (torch.tensor)."""
    array = as_array(data, None if dtype is None else parse_dtype(dtype))
    return _make(np.array(array, order="K") if isinstance(array, np.ndarray) else array.copy(), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory (torch.from_numpy)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    return wrap(as_array(array))


def zeros(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Zeros of a size."""
    return _make(np.zeros(_shape(size), parse_dtype(dtype)), requires_grad)


def ones(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Ones of a size."""
    return _make(np.ones(_shape(size), parse_dtype(dtype)), requires_grad)


def full(size: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere; its type gives the dtype: float32, int64 or bool."""
    kind = np.asarray(fill_value).dtype
    dtype = (DEFAULT_DTYPE if kind.kind == "f" else kind) if dtype is None else parse_dtype(dtype)
    return _make(
        np.full(_shape((size,) if isinstance(size, int) else tuple(size)), fill_value, dtype), requires_grad
    )


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros with the shape and memory format of x."""
    return wrap(np.zeros_like(as_array(x), dtype=dtype))


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones with the shape and memory format of x."""
    return wrap(np.ones_like(as_array(x), dtype=dtype))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below end; int64 from ints, else float32."""
    start, end = (0, start) if end is None else (start, end)
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    dtype = parse_dtype(dtype) if dtype is not None else np.dtype(np.int64) if whole else DEFAULT_DTYPE
    return wrap(np.arange(start, end, step).astype(dtype))


def rand(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1), from the generator of manual_seed."""
    return _make(random.generator().random(_shape(size), parse_dtype(dtype)), requires_grad)


def randn(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Standard normal, from the generator of manual_seed."""
    return _make(
        np.asarray(random.generator().standard_normal(_shape(size), parse_dtype(dtype))), requires_grad
    )


def randint(low: int, high: int, size: Sequence[int], dtype: Any = np.int64) -> Tensor:
    """Integers of [low, high), from the generator of manual_seed."""
    return wrap(random.generator().integers(low, high, _shape(tuple(size)), parse_dtype(dtype)))


def randperm(n: int) -> Tensor:
    """A random order of 0 to n - 1, from the generator of manual_seed."""
    return wrap(random.generator().permutation(n))


# ---- joining ----


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors one after the other along dim (torch.cat)."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: the list of tensors is empty")
    return el.concatenate(*tensors, dim=as_axis(dim, tensors[0].ndim))


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape, side by side along a new dimension (torch.stack)."""
    return cat([(t if isinstance(t, Variable) else wrap(np.asarray(t))).unsqueeze(dim) for t in tensors], dim)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where condition, else y (torch.where); a Python number takes the other side's dtype."""
    dtype = next((v.dtype for v in (x, y) if hasattr(v, "dtype")), DEFAULT_DTYPE)
    x, y = (v if hasattr(v, "dtype") else np.asarray(v, dtype) for v in (x, y))
    return el.where(condition, x, y)
