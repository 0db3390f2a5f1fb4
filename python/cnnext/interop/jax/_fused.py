"""Convolution, ReLU and max-pool as one operation."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ... import _C
from ..._arrays import Padding, Pair
from ._arguments import check_arrays
from ._call import call
from ._conv import backward_data, backward_weights, bias_grad, conv2d
from ._pool import max_pool2d, max_pool2d_backward


class _Fused(NamedTuple):
    conv: bytes
    pool: bytes

    @property
    def both(self) -> bytes:
        return self.conv + self.pool


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _fused(x: Array, weight: Array, bias: Array | None, how: _Fused) -> Array:
    return call("conv2d_relu_max_pool2d", x, weight, bias, params=how.both, wanted=(True, False))[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _with_codes(x: Array, weight: Array, bias: Array | None, how: _Fused) -> tuple[Array, Array]:
    return call("conv2d_relu_max_pool2d", x, weight, bias, params=how.both, wanted=(True, True))


def _save(x: Array, weight: Array, bias: Array | None, codes: Array) -> Any:
    return x, weight, None if bias is None else (), codes


def _forward(x: Array, weight: Array, bias: Array | None, how: _Fused) -> Any:
    y, codes = _with_codes(x, weight, bias, how)
    return y, _save(x, weight, bias, codes)


def _backward(how: _Fused, saved: Any, g: Array) -> tuple[Array | None, ...]:
    x, weight, bias, codes = saved
    grad_x, grad_weight, grad_bias = _gradients(g, codes, x, weight, how)
    return grad_x, grad_weight, None if bias is None else grad_bias


def _with_codes_forward(x: Array, weight: Array, bias: Array | None, how: _Fused) -> Any:
    y, codes = _with_codes(x, weight, bias, how)
    return (y, codes), _save(x, weight, bias, codes)


_fused.defvjp(_forward, _backward)
_with_codes.defvjp(_with_codes_forward, lambda how, saved, g: _backward(how, saved, g[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _gradients(g: Array, codes: Array, x: Array, weight: Array, how: _Fused) -> tuple[Array, ...]:
    """Of x, weight and bias."""
    wanted = (True,) * 3
    return call("conv2d_relu_max_pool2d_backward", g, codes, x, weight, params=how.both, wanted=wanted)


def _apart(g: Array, codes: Array, x: Array, weight: Array, how: _Fused) -> tuple[Array, ...]:
    """The same of operations that have gradients. The codes know what the ReLU stopped."""
    inner = jax.eval_shape(lambda *a: call("conv2d", *a, None, None, params=how.conv)[0], x, weight)
    g = max_pool2d_backward(g, codes, inner.shape, how.pool)
    return (
        backward_data(g, weight, x.shape, how.conv),
        backward_weights(g, x, weight.shape, how.conv),
        bias_grad(g),
    )


def _gradients_rule(how: _Fused, saved: Any, given: Any) -> tuple[Array | None, ...]:
    g, codes, x, weight = saved
    _, pull = jax.vjp(lambda g, x, weight: _apart(g, codes, x, weight, how), g, x, weight)
    for_g, for_x, for_weight = pull(given)
    return for_g, None, for_x, for_weight


_gradients.defvjp(
    lambda g, codes, x, weight, how: (_gradients(g, codes, x, weight, how), (g, codes, x, weight)),
    _gradients_rule,
)
_jitted = jax.jit(_fused, static_argnums=3)


def conv2d_relu_max_pool2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    pool_size: Pair,
    pool_stride: Pair | None = None,
    pool_padding: Padding = 0,
) -> Array:
    """max_pool2d(relu(conv2d(x, weight, bias))), differentiable, without the results between them.

    Parameters as cnnext.ops.conv2d_relu_max_pool2d's; the gradient keeps x and one byte a window.
    Of float16 and bfloat16 convolution and pool run one after the other.
    """
    check_arrays("conv2d_relu_max_pool2d", "bias", x=x, weight=weight, bias=bias)
    geometry, pool = (stride, padding, dilation, groups), (pool_size, pool_stride, pool_padding)
    how = _Fused(*_C.conv2d_relu_max_pool2d_params(*geometry, *pool))
    if np.dtype(getattr(x, "dtype", np.float32)).itemsize == 2:
        return max_pool2d(conv2d(x, weight, bias, *geometry, activation="relu"), *pool)
    return _jitted(x, weight, bias, how)
