"""Images in another size: nearest neighbours and linear interpolation.

Along each axis an output element is a weighted sum of input elements: of one (nearest) or two (linear). The
gradient is such a sum too, of the output elements that an input element is part of, so that one primitive is
its own rule, with another table.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..devices import asarray_like
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor
from ._layout import is_channels_last, laid_out

_LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}
_NEAREST = ("nearest", "nearest-exact")
_PART = 1 << 17  # elements of a part of the output: what it is made of stays in a cache


class _Tap(NamedTuple):
    """One summand of each output element: which input elements, and their weights (None: 1)."""

    index: np.ndarray
    weight: np.ndarray | None


class _Table:
    """What becomes of one axis of n_in elements: n_out sums of taps. `empty`: the sums of none at all."""

    def __init__(self, n_in: int, n_out: int, taps: list[_Tap], empty: np.ndarray | None = None) -> None:
        self.n_in, self.n_out, self.taps, self.empty = n_in, n_out, taps, empty
        self._slices = [_as_slice(tap.index) for tap in taps]

    def transposed(self) -> _Table:
        """The table of the gradient."""
        source = np.concatenate([tap.index for tap in self.taps])
        target = np.tile(np.arange(self.n_out), len(self.taps))
        weights = [np.ones(self.n_out) if tap.weight is None else tap.weight for tap in self.taps]
        weight = np.concatenate(weights)
        parts = np.flatnonzero(weight)
        parts = parts[np.lexsort((target[parts], source[parts]))]
        source, target, weight = source[parts], target[parts], weight[parts]
        counts = np.bincount(source, minlength=self.n_in)
        first = np.cumsum(counts) - counts
        taps = []
        for rank in range(int(counts.max())):
            there = counts > rank
            # A sum with fewer summands has its first one again, with no weight: any other might be infinite.
            place = np.minimum(np.where(there, first + rank, first), len(source) - 1)
            w = np.where(there, weight[place], 0).astype(weight.dtype)
            taps.append(_Tap(target[place], None if (w == 1).all() else w))
        empty = np.flatnonzero(counts == 0)
        return _Table(self.n_out, self.n_in, taps, empty if empty.size else None)

    def apply(self, x: Any, axis: int) -> Any:
        """The sums along one axis of x, as a new array."""
        total = None
        lead, behind = (slice(None),) * axis, [1] * (x.ndim - 1 - axis)
        for (index, weight), view in zip(self.taps, self._slices, strict=True):
            part = x.take(asarray_like(index, x, np.int64), axis) if view is None else x[(*lead, view)]
            if weight is not None:
                weight = asarray_like(weight, x, x.dtype).reshape([-1, *behind])
                part = np.multiply(part, weight, out=part if view is None else None)
            if total is not None:
                total += part
            else:
                total = part.copy() if view is not None and weight is None else part
        if self.empty is not None:
            total[(slice(None),) * axis + (self.empty,)] = 0
        return total


def _as_slice(index: np.ndarray) -> slice | None:
    """What gives the same elements as a view, where there is such a thing."""
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    if step < 1 or (np.diff(index) != step).any():
        return None
    return slice(int(index[0]), int(index[-1]) + 1, step)


class _Plan:
    """Tables for the spatial axes, None for one that stays, and the order in which they are applied."""

    def __init__(self, tables: tuple[_Table | None, ...], inner_first: bool, adjoint: _Plan | None = None):
        self.tables, self._inner_first, self._adjoint = tables, inner_first, adjoint

    @property
    def adjoint(self) -> _Plan:
        """The plan of the gradient; its adjoint is this one."""
        if self._adjoint is None:
            transposed = tuple(None if t is None else t.transposed() for t in self.tables)
            self._adjoint = _Plan(transposed, not self._inner_first, self)
        return self._adjoint

    def sizes(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Of the result."""
        return tuple(n if t is None else t.n_out for n, t in zip(given, self.tables, strict=True))

    def apply(self, planes: Any) -> Any:
        """(planes, *spatial) or (images, H, W, C) in the new sizes."""
        steps = [(axis, table) for axis, table in enumerate(self.tables, 1) if table is not None]
        for axis, table in reversed(steps) if self._inner_first else steps:
            planes = table.apply(planes, axis)
        return planes


@primitive
def _interpolate(x: Any, *, plan: _Plan, channels_last: bool) -> Any:
    # The format is that of the forward pass: a gradient of 1x1 maps would not tell.
    x = laid_out(x, channels_last)
    sizes = plan.sizes(x.shape[2:])
    if channels_last:
        source = x.transpose(0, 2, 3, 1)
        result = np.empty_like(source, order="C", shape=(len(x), *sizes, x.shape[1]))
        y = result.transpose(0, 3, 1, 2)
    else:
        y = np.empty_like(x, order="C", shape=(*x.shape[:2], *sizes))
        source, result = x.reshape(-1, *x.shape[2:]), y.reshape(-1, *sizes)
    half = x.dtype.itemsize == 2 and x.dtype.kind not in "biu"  # bfloat16 is of no kind of NumPy's
    step = max(1, _PART // max(1, math.prod(result.shape[1:])))
    for at in range(0, len(source), step):
        part = source[at : at + step]
        result[at : at + step] = plan.apply(part.astype(np.float32) if half else part)
    return y


defvjp(
    _interpolate,
    lambda g, plan, channels_last: _interpolate(g, plan=plan.adjoint, channels_last=channels_last),
)


def _table(
    n: int, size: int, scale: float | None, mode: str, align_corners: bool, dtype: Any
) -> _Table | None:
    """torch's choice of elements and weights; scale: the factor that was given, if it counts."""
    if n == size and (scale is None or mode != "nearest-exact"):
        return None
    step = dtype(1.0 / scale) if scale is not None else dtype(n) / dtype(size)
    places = np.arange(size).astype(dtype)
    centred = np.maximum((places + dtype(0.5)) * step - dtype(0.5), 0)
    if mode in _NEAREST:
        if size == 2 * n and mode == "nearest":
            index = np.arange(size) // 2
        else:
            nearest = places * step if mode == "nearest" else centred + dtype(0.5)
            index = np.floor(nearest.astype(np.float32)).astype(np.int64)
        return _Table(n, size, [_Tap(np.minimum(index, n - 1), None)])
    cornered = places * (dtype(n - 1) / dtype(size - 1) if size > 1 else dtype(0))
    places = cornered if align_corners else centred
    index = np.minimum(np.floor(places).astype(np.int64), n - 1)
    second = np.clip(places - index.astype(dtype), 0, 1)
    return _Table(n, size, [_Tap(index, 1 - second), _Tap(np.minimum(index + 1, n - 1), second)])


@lru_cache(maxsize=64)
def _plan(given: tuple, sizes: tuple, scales: tuple, mode: str, align_corners: bool, dtype: Any) -> _Plan:
    axes = zip(given, sizes, scales, strict=True)
    tables = tuple(_table(n, size, scale, mode, align_corners, dtype) for n, size, scale in axes)
    # The elements of the innermost axis are gathered one by one, of others in rows: so on the smaller array.
    return _Plan(tables, inner_first=math.prod(sizes) >= math.prod(given))


def _for_each(name: str, value: Any, count: int, kind: Any) -> tuple:
    """One number for all axes, or one for each, all positive."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(
            f"interpolate: {name}={value!r} must be a number or {count} numbers, one for each axis"
        )
    for v in values:
        if isinstance(v, bool) or not isinstance(v, kind):
            expected = "an int" if float not in kind else "a number"
            raise TypeError(f"interpolate: {name} must hold {expected} for each axis, got {value!r}")
        if not 0 < v < math.inf:
            raise ValueError(f"interpolate: {name}={value!r} must be positive")
    return values


def _check_mode(x: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"interpolate: x must have 3, 4 or 5 dimensions, it has shape {list(x.shape)}")
    if mode in ("bicubic", "area") or antialias:
        what = "antialias=True" if antialias else f"mode={mode!r}"
        raise NotImplementedError(f"interpolate: {what} is not supported")
    if mode not in (*_NEAREST, *_LINEAR):
        raise ValueError(f"interpolate: mode={mode!r} must be one of {', '.join((*_NEAREST, *_LINEAR))}")
    if _LINEAR.get(mode, x.ndim) != x.ndim:
        raise ValueError(
            f"interpolate: mode={mode!r} needs {_LINEAR[mode]} dimensions, x has shape {list(x.shape)}"
        )
    if mode in _LINEAR and x.dtype.kind in "biu":
        raise TypeError(f"interpolate: mode={mode!r} needs a floating dtype, x has {x.dtype}")
    if align_corners is not None and mode in _NEAREST:
        raise ValueError(f"interpolate: align_corners={align_corners} is for linear modes, not for {mode!r}")


def _target(given: tuple, size: Any, scale_factor: Any, recompute: bool | None) -> tuple[tuple, tuple]:
    """The sizes of the result, and the factors that count: None where the sizes say it."""
    axes = len(given)
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor=True needs scale_factor, not size")
        return tuple(int(n) for n in _for_each("size", size, axes, (int, np.integer))), (None,) * axes
    kinds = (int, float, np.integer, np.floating)
    factors = tuple(float(f) for f in _for_each("scale_factor", scale_factor, axes, kinds))
    sizes = tuple(math.floor(n * f) for n, f in zip(given, factors, strict=True))
    if 0 in sizes:
        raise ValueError(
            f"interpolate: scale_factor={scale_factor!r} leaves nothing of the sizes {list(given)}"
        )
    return sizes, (None,) * axes if recompute else factors


def interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Images in another size (torch.nn.functional.interpolate): (N, C, ...) to (N, C, *size), in x's format.

    size: an int or one for each spatial axis, or else scale_factor: a number or one for each, and the result
    is floor(scale_factor * size) long. mode: "nearest" (any dtype), "nearest-exact", or for a floating dtype
    "linear" (N, C, L), "bilinear" (N, C, H, W) or "trilinear" (N, C, D, H, W). align_corners, of the linear
    modes: the corners' centres stay where they are, instead of the edges. recompute_scale_factor: steps from
    one element to the next follow from the sizes, not from scale_factor.

    Cost: NumPy's, on one thread, one axis after the other, in parts of some images or planes and with no
    temporary of the size of x or y. Doubled sizes in float32 took 2 ns an element of y (nearest) and 5 ns
    (bilinear) in contiguous memory, 0.4 and 4.5 ns in channels-last, the gradients 2 and 7, 0.5 and 5 ns.
    ValueError, TypeError: for arguments that do not fit; NotImplementedError: other modes, and antialias.
    """
    x = as_tensor(x)
    _check_mode(x, mode, align_corners, antialias)
    given = x.shape[2:]
    if 0 in given:
        raise ValueError(f"interpolate: x has no elements along an axis, its shape is {list(x.shape)}")
    sizes, scales = _target(given, size, scale_factor, recompute_scale_factor)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    plan = _plan(given, sizes, scales, mode, bool(align_corners), dtype)
    return _interpolate(x, plan=plan, channels_last=is_channels_last(x.data))
