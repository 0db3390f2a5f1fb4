"""Max-pool, its indices and unpool for JAX, and the average pool."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ... import _C
from ..._arrays import Padding, Pair
from ..._ops_pool import _unpool_shape
from ._arguments import check_arrays
from ._call import Static, call, narrowed, widened

Shape = tuple[int, ...]

# ---- max-pool ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool2d(x: Array, params: tuple[bytes, bytes]) -> Array:
    return call("max_pool2d", x, params=params[0], wanted=(True, False))[0]


def _forward(x: Array, params: tuple[bytes, bytes]) -> Any:
    y, codes = _with_indices(x, params[1])
    return y, (codes, Static(x.shape))


_max_pool2d.defvjp(
    _forward, lambda params, saved, g: (max_pool2d_backward(g, saved[0], tuple(saved[1]), params[1]),)
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _with_indices(x: Array, params: bytes) -> tuple[Array, Array]:
    """(y, indices), the latter as operations take them."""
    return call("max_pool2d", x, params=params, wanted=(True, True))


def _with_indices_forward(x: Array, params: bytes) -> Any:
    y, indices = _with_indices(x, params)
    return (y, indices), (indices, Static(x.shape))


_with_indices.defvjp(
    _with_indices_forward,
    lambda params, saved, g: (max_pool2d_backward(g[0], saved[0], tuple(saved[1]), params),),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def max_pool2d_backward(grad_y: Array, indices: Array, shape: Shape, params: bytes) -> Array:
    """The gradient of max_pool2d's x, of that shape."""
    return call("max_pool2d_backward", grad_y, indices, params=params, shape=shape)[0]


max_pool2d_backward.defvjp(
    lambda g, indices, shape, params: (max_pool2d_backward(g, indices, shape, params), indices),
    lambda shape, params, indices, g: (max_pool2d_gather(g, indices, params), None),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def max_pool2d_gather(x: Array, indices: Array, params: bytes) -> Array:
    """x read at the indices: max_pool2d_backward's adjoint."""
    return call("max_pool2d_gather", x, indices, params=params)[0]


max_pool2d_gather.defvjp(
    lambda x, indices, params: (max_pool2d_gather(x, indices, params), (indices, Static(x.shape))),
    lambda params, saved, g: (max_pool2d_backward(g, saved[0], tuple(saved[1]), params), None),
)


def _both(x: Array, params: bytes) -> tuple[Array, Array]:
    y, indices = _with_indices(x, params)
    return y, narrowed(indices)


_max_pool2d_jitted = jax.jit(_max_pool2d, static_argnums=1)
_both_jitted = jax.jit(_both, static_argnums=1)


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: str = "plane",
) -> Array | tuple[Array, Array]:
    """Differentiable `cnnext.ops.max_pool2d` (torch's), with its parameters, shapes, dtypes and errors.

    "plane" indices are int64 where jax_enable_x64 is on, else int32. The gradient keeps one byte a window.
    """
    check_arrays("max_pool2d", x=x)
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    params = _C.max_pool2d_params(*window, indices, "indices")
    if return_indices:
        return _both_jitted(x, params)
    return _max_pool2d_jitted(x, (params, _C.max_pool2d_params(*window, "window", "indices")))


# ---- unpool ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _unpool(x: Array, indices: Array, shape: Shape, params: bytes, kind: str) -> Array:
    return call("max_unpool2d", x, indices, params=params, shape=shape)[0]


_unpool.defvjp(
    lambda x, indices, shape, params, kind: (_unpool(x, indices, shape, params, kind), indices),
    lambda shape, params, kind, indices, g: (_unpool_backward(g, indices, params, kind), None),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _unpool_backward(grad_y: Array, indices: Array, params: bytes, kind: str) -> Array:
    return call("max_pool2d_gather", grad_y, indices, params=params)[0]


def _unpool_backward_rule(params: bytes, kind: str, saved: Any, g: Array) -> Any:
    """The sum of what each place was read for: unpool itself would keep one of several."""
    indices, shape = saved
    if kind != "plane":
        return max_pool2d_backward(g, indices, tuple(shape), params), None
    places = narrowed(indices)
    planes = g.size // max(g.shape[-2] * g.shape[-1], 1)
    size = shape[-2] * shape[-1]
    # What was read nowhere (-1) is added behind the plane, where it is dropped.
    rows = jnp.where(places < 0, size, places).reshape(planes, -1)
    zeros = jnp.zeros((planes, size), g.dtype)
    summed = zeros.at[np.arange(planes)[:, None], rows].add(g.reshape(planes, -1), mode="drop")
    return summed.reshape(shape), None


_unpool_backward.defvjp(
    lambda g, indices, params, kind: (
        _unpool_backward(g, indices, params, kind),
        (indices, Static(g.shape)),
    ),
    _unpool_backward_rule,
)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _unpool_jitted(x: Array, indices: Array, shape: Shape, params: bytes, kind: str) -> Array:
    return _unpool(x, widened(indices) if kind == "plane" else indices, shape, params, kind)


def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    output_size: Sequence[int] | None = None,
    *,
    indices_kind: str = "plane",
) -> Array:
    """Differentiable `cnnext.ops.max_unpool2d` (torch's), with its parameters, shapes, dtypes and errors.

    indices: as max_pool2d gives them. An index out of range is an error when the program runs.
    """
    check_arrays("max_unpool2d", x=x, indices=indices)
    shape = _unpool_shape(jnp.shape(x), kernel_size, stride, padding, output_size)
    params = _C.max_pool2d_params(kernel_size, stride, padding, 1, False, indices_kind, "indices_kind")
    return _unpool_jitted(x, indices, shape, params, indices_kind)


# ---- average pool ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _avg_pool2d(x: Array, params: bytes) -> Array:
    return call("avg_pool2d", x, params=params)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _avg_pool2d_backward(grad_y: Array, shape: Shape, params: bytes) -> Array:
    return call("avg_pool2d_backward", grad_y, params=params, shape=shape)[0]


_avg_pool2d.defvjp(
    lambda x, params: (_avg_pool2d(x, params), Static(x.shape)),
    lambda params, shape, g: (_avg_pool2d_backward(g, tuple(shape), params),),
)
_avg_pool2d_backward.defvjp(
    lambda g, shape, params: (_avg_pool2d_backward(g, shape, params), None),
    lambda shape, params, _, g: (_avg_pool2d(g, params),),
)
_avg_pool2d_jitted = jax.jit(_avg_pool2d, static_argnums=1)


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Pair = 1,
) -> Array:
    """Differentiable `cnnext.ops.avg_pool2d` (torch's), with its parameters, shapes, dtypes and errors."""
    check_arrays("avg_pool2d", x=x)
    return _avg_pool2d_jitted(
        x,
        _C.avg_pool2d_params(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        ),
    )
