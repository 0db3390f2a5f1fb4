"""The elementary primitives on arrays, each with its gradient: arithmetic, reductions, shapes, indexing.

Only NumPy's functions are called; they dispatch to the array's own library (NEP 13 and 18), so that CuPy
arrays work unchanged. Ufuncs keep the memory format of their input. Rules use the operators of Tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import ops
from .devices import add_at, asarray_like, copied_to, copy_of
from .dtypes import is_floating, is_half
from .tape import defvjp, primitive

_silent = np.errstate(all="ignore")  # 1 / 0 is infinite and inf * 0 NaN without a warning, as in torch

_LARGE = 1 << 18  # elements; from here on pooled memory and threads beat NumPy, whose result page-faults


def _is_own(dtype: np.dtype) -> bool:
    """Has ops.add kernels for it?"""
    return dtype.itemsize <= 8 and is_floating(dtype)


# ---- arithmetic ----


@primitive
@_silent
def add(x: Any, y: Any) -> Any:
    if x.size >= _LARGE and x.shape == y.shape and x.dtype == y.dtype and _is_own(x.dtype):
        return ops.add(x, y)
    return np.add(x, y)


@primitive
@_silent
def subtract(x: Any, y: Any) -> Any:
    return np.subtract(x, y)


@primitive
@_silent
def multiply(x: Any, y: Any) -> Any:
    return np.multiply(x, y)


@primitive
@_silent
def divide(x: Any, y: Any) -> Any:
    whole = not (is_floating(x.dtype) or is_floating(y.dtype))  # integers give float32, not NumPy's float64
    return np.true_divide(x, y, dtype=np.float32) if whole else np.true_divide(x, y)


@primitive
@_silent
def power(x: Any, y: Any) -> Any:
    return np.power(x, y)


@primitive
@_silent
def power_scalar(x: Any, *, exponent: float) -> Any:
    if exponent == 2:
        return np.multiply(x, x)
    return np.sqrt(x) if exponent == 0.5 else np.power(x, asarray_like(exponent, x, x.dtype))


@primitive
def negative(x: Any) -> Any:
    return np.negative(x)


@primitive
def absolute(x: Any) -> Any:
    return np.absolute(x)


@primitive
def sign(x: Any) -> Any:
    return np.sign(x)


@primitive
@_silent
def exp(x: Any) -> Any:
    return np.exp(x)


@primitive
@_silent
def log(x: Any) -> Any:
    return np.log(x)


@primitive
@_silent
def sqrt(x: Any) -> Any:
    return np.sqrt(x)


@primitive
def sin(x: Any) -> Any:
    return np.sin(x)


@primitive
def cos(x: Any) -> Any:
    return np.cos(x)


@primitive
def maximum(x: Any, y: Any) -> Any:
    return np.maximum(x, y)


@primitive
def minimum(x: Any, y: Any) -> Any:
    return np.minimum(x, y)


@primitive
def clamp(x: Any, *, min: Any, max: Any) -> Any:
    x = x if min is None else np.maximum(x, asarray_like(min, x, x.dtype))
    return x if max is None else np.minimum(x, asarray_like(max, x, x.dtype))


@primitive
def where(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)


def _power_rule_x(g: Any, x: Any, y: Any) -> Any:
    return g * where((x == 0) & (y == 0), y * 0.0, y * x ** (y - 1.0))  # 0 ** -1 would make it NaN


def _power_rule_y(g: Any, x: Any, y: Any, out: Any) -> Any:
    # x ** y is flat in y at x = 0 (y >= 0), where log(x) would give 0 * -inf.
    flat = (x == 0) & (y >= 0)
    return g * where(flat, 0.0 * out, out * log(where(flat, 0.0 * out + 1.0, x)))


def _winner(g: Any, high: Any, low: Any) -> Any:
    """All of g where high is above low, half of it at a tie."""
    return g * ((high > low) + (high == low) * asarray_like(0.5, g.data, g.dtype))


def _masked(g: Any, condition: Any, keep: bool) -> Any:
    zero = asarray_like(0, g.data, g.dtype)
    return where(condition, g, zero) if keep else where(condition, zero, g)


def _clamp_rule(g: Any, x: Any, min: Any, max: Any) -> Any:
    inside = (x == x) if min is None else (x >= min)
    return g * (inside if max is None else inside & (x <= max))


defvjp(add, lambda g: g, lambda g: g)
defvjp(subtract, lambda g: g, lambda g: -g)
defvjp(multiply, lambda g, y: g * y, lambda g, x: g * x)
defvjp(divide, lambda g, y: g / y, lambda g, out, y: -g * (out / y))
defvjp(power, _power_rule_x, _power_rule_y)
defvjp(
    power_scalar, lambda g, x, exponent: g * 0.0 if exponent == 0 else g * (exponent * x ** (exponent - 1))
)
defvjp(negative, lambda g: -g)
defvjp(absolute, lambda g, x: g * sign(x))
defvjp(sign, lambda g: g * 0.0)
defvjp(exp, lambda g, out: g * out)
defvjp(log, lambda g, x: g / x)
defvjp(sqrt, lambda g, out: g / (2.0 * out))
defvjp(sin, lambda g, x: g * cos(x))
defvjp(cos, lambda g, x: -g * sin(x))
defvjp(maximum, lambda g, x, y: _winner(g, x, y), lambda g, x, y: _winner(g, y, x))
defvjp(minimum, lambda g, x, y: _winner(g, y, x), lambda g, x, y: _winner(g, x, y))
defvjp(clamp, _clamp_rule)
defvjp(
    where,
    None,
    lambda g, condition: _masked(g, condition, True),
    lambda g, condition: _masked(g, condition, False),
)


@primitive
@_silent
def matmul(x: Any, y: Any) -> Any:
    return np.matmul(x, y)


def _matmul_rule_x(g: Any, y: Any, shapes: Any) -> Any:
    if y.ndim == 1:
        return g.unsqueeze(-1) * y
    rows = g.unsqueeze(-2) if len(shapes[0]) == 1 else g
    result = matmul(rows, y.transpose(-2, -1))
    return result.squeeze(-2) if len(shapes[0]) == 1 else result


def _matmul_rule_y(g: Any, x: Any, shapes: Any) -> Any:
    if x.ndim == 1:
        return x * g if len(shapes[1]) == 1 else x.unsqueeze(-1) * g.unsqueeze(-2)
    columns = g.unsqueeze(-1) if len(shapes[1]) == 1 else g
    result = matmul(x.transpose(-2, -1), columns)
    return result.squeeze(-1) if len(shapes[1]) == 1 else result


defvjp(matmul, _matmul_rule_x, _matmul_rule_y)

# ---- comparisons: no gradient ----

equal, not_equal, less, less_equal, greater, greater_equal = (
    primitive(fn)
    for fn in (
        lambda x, y: np.equal(x, y),
        lambda x, y: np.not_equal(x, y),
        lambda x, y: np.less(x, y),
        lambda x, y: np.less_equal(x, y),
        lambda x, y: np.greater(x, y),
        lambda x, y: np.greater_equal(x, y),
    )
)
logical_and, logical_or, logical_not = (
    primitive(fn)
    for fn in (lambda x, y: np.bitwise_and(x, y), lambda x, y: np.bitwise_or(x, y), lambda x: np.invert(x))
)


# ---- reductions; `axes` is a tuple of non-negative axes ----


@primitive
@_silent
def sum_axes(x: Any, *, axes: tuple[int, ...], keepdim: bool) -> Any:
    if is_half(x.dtype):  # NumPy would round after every term
        return np.sum(x, axis=axes, keepdims=keepdim, dtype=np.float32).astype(x.dtype)
    return np.sum(x, axis=axes, keepdims=keepdim)


@primitive
@_silent
def mean_axes(x: Any, *, axes: tuple[int, ...], keepdim: bool) -> Any:
    if is_half(x.dtype):
        return np.mean(x, axis=axes, keepdims=keepdim, dtype=np.float32).astype(x.dtype)
    return np.mean(x, axis=axes, keepdims=keepdim)


@primitive
def max_axes(x: Any, *, axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.max(x, axis=axes, keepdims=keepdim)


@primitive
def min_axes(x: Any, *, axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.min(x, axis=axes, keepdims=keepdim)


@primitive
def argmax(x: Any, *, dim: int | None, keepdim: bool) -> Any:
    return np.argmax(x, axis=dim, keepdims=keepdim)


@primitive
def argmin(x: Any, *, dim: int | None, keepdim: bool) -> Any:
    return np.argmin(x, axis=dim, keepdims=keepdim)


def _spread(g: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Any:
    """A reduced gradient seen at the shape before the reduction."""
    return expand(g if keepdim else unreduce(g, shape, axes), shape=shape)


def unreduce(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """Put back, with length 1, the axes of `shape` that a reduction took away."""
    return reshape(x, shape=tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _extreme_rule(g: Any, x: Any, out: Any, shapes: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Shared evenly among equal extremes, as torch.amax."""
    best = x == (out if keepdim else unreduce(out, shapes[0], axes))
    share = best.to(x.dtype) / sum_axes(best.to(x.dtype), axes=axes, keepdim=True)
    return (g if keepdim else unreduce(g, shapes[0], axes)) * share


defvjp(sum_axes, lambda g, shapes, axes, keepdim: _spread(g, shapes[0], axes, keepdim))
defvjp(
    mean_axes,
    lambda g, shapes, axes, keepdim: (
        _spread(g, shapes[0], axes, keepdim)
        / float(max(1, np.prod([shapes[0][a] for a in axes], dtype=np.int64)))
    ),
)
defvjp(max_axes, _extreme_rule)
defvjp(min_axes, _extreme_rule)


# ---- shapes ----


@primitive(view=True)
def reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.reshape(x, shape)


@primitive(view=True)
def permute(x: Any, *, dims: tuple[int, ...]) -> Any:
    return np.transpose(x, dims)


@primitive(view=True)
def expand(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, shape)


@primitive
@_silent
def cast(x: Any, *, dtype: Any) -> Any:
    return x.astype(dtype)


@primitive
def to_device(x: Any, *, device: str, source: str) -> Any:
    return copied_to(x, device)


@primitive
def copy(x: Any) -> Any:
    return copy_of(x)


@primitive
def contiguous(x: Any, *, channels_last: bool) -> Any:
    if x.ndim == 4 and is_floating(x.dtype):
        return ops.contiguous(x, channels_last=channels_last)
    if not channels_last:
        return copy_of(x, "C")
    return copy_of(x.transpose(0, 2, 3, 1), "C").transpose(0, 3, 1, 2)


@primitive
@_silent
def sum_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1
    )
    return np.reshape(sum_axes.fn(x, axes=axes, keepdim=True), shape)


@primitive
def concatenate(*xs: Any, dim: int) -> Any:
    return np.concatenate(xs, axis=dim)


def _split(g: Any, shapes: Any, dim: int, wanted: Any) -> list:
    """The inverse of concatenate."""
    ends = np.cumsum([s[dim] for s in shapes])
    lead = (slice(None),) * dim
    return [
        getitem(g, index=(*lead, slice(int(end) - s[dim], int(end)))) if w else None
        for s, end, w in zip(shapes, ends, wanted, strict=True)
    ]


@primitive
def flip(x: Any, *, dims: tuple[int, ...]) -> Any:
    return np.flip(x, dims).copy()


defvjp(reshape, lambda g, shapes: reshape(g, shape=shapes[0]))
defvjp(permute, lambda g, dims: permute(g, dims=tuple(int(i) for i in np.argsort(dims))))
defvjp(expand, lambda g: g)  # the engine sums it
defvjp(cast, lambda g: g)  # the engine casts it
defvjp(copy, lambda g: g)
defvjp(to_device, lambda g, device, source: to_device(g, device=source, source=device))
defvjp(contiguous, lambda g: g)
defvjp(sum_to, lambda g, shapes: expand(g, shape=shapes[0]))
defvjp(concatenate, joint=_split)
defvjp(flip, lambda g, dims: flip(g, dims=dims))


# ---- indexing ----


@primitive(view=True)
def getitem(x: Any, *, index: Any) -> Any:
    return x[index]


@primitive
def scatter_index(g: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` with g added at `index`: the adjoint of getitem."""
    out = np.zeros_like(g, shape=shape)
    if is_basic(index):
        out[index] = g
    else:
        add_at(out, index, g)
    return out


@primitive
def setitem(x: Any, value: Any, *, index: Any) -> Any:
    out = copy_of(x)
    out[index] = value
    return out


@primitive
def gather(x: Any, index: Any, *, dim: int) -> Any:
    return np.take_along_axis(_cut(x, index, dim), index, axis=dim)


@primitive
def scatter_add(g: Any, index: Any, *, dim: int, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` with g added at `index` along `dim`: the adjoint of gather."""
    out = np.zeros_like(g, shape=shape)
    where_ = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where_[dim] = index
    add_at(out, tuple([asarray_like(i, out, np.int64) for i in where_]), g)
    return out


def _cut(x: Any, index: Any, dim: int) -> Any:
    """torch.gather takes an index that is smaller than x along the other axes."""
    return x[tuple(slice(None) if i == dim else slice(n) for i, n in enumerate(index.shape))]


def is_basic(index: Any) -> bool:
    """Only integers, slices, None and Ellipsis: NumPy gives a view and names no element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        p is None or p is Ellipsis or isinstance(p, (slice, int, np.integer)) for p in parts
    ) and not any(isinstance(p, bool) for p in parts)


def _setitem_rule_x(g: Any, index: Any, shapes: Any) -> Any:
    return setitem(g, asarray_like(0, g.data, g.dtype), index=index)


defvjp(getitem, lambda g, index, shapes: scatter_index(g, index=index, shape=shapes[0]))
defvjp(scatter_index, lambda g, index: getitem(g, index=index))
defvjp(setitem, _setitem_rule_x, lambda g, index: getitem(g, index=index))
defvjp(gather, lambda g, index, dim, shapes: scatter_add(g, index, dim=dim, shape=shapes[0]))
defvjp(scatter_add, lambda g, index, dim: gather(g, index, dim=dim))
