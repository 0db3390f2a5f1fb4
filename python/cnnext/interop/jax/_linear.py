"""Linear for JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import Array

from . import _activation as activations
from ._arguments import check_arrays
from ._call import call
from ._conv import Conv, bias_grad, conv_params


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _linear(x: Array, weight: Array, bias: Array | None, how: Conv) -> Array:
    return call("linear", x, weight, bias, params=how.fused)[0]


def _forward(x: Array, weight: Array, bias: Array | None, how: Conv) -> Any:
    if activations.needs_input(how.activation):
        kept = _linear(x, weight, bias, Conv(how.plain, how.plain))
        y = activations.apart(how.activation, kept)
    else:
        y = _linear(x, weight, bias, how)
        kept = None if how.activation is None else y
    return y, (x, weight, kept, None if bias is None else ())


def _backward(how: Conv, saved: Any, g: Array) -> tuple[Any, ...]:
    x, weight, kept, bias = saved
    g = activations.gradient(g, how.activation, kept)
    rows = g.reshape(-1, g.shape[-1]) if g.size else g.reshape(0, g.shape[-1])
    return (
        _backward_data(g, weight, how.plain),
        _backward_weights(g, x, how.plain),
        None if bias is None else bias_grad(rows),
    )


_linear.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _backward_data(grad_y: Array, weight: Array, plain: bytes) -> Array:
    return call("linear_backward_data", grad_y, weight)[0]


_backward_data.defvjp(
    lambda grad_y, weight, plain: (_backward_data(grad_y, weight, plain), (grad_y, weight)),
    lambda plain, saved, g: (
        _linear(g, saved[1], None, Conv(plain, plain)),
        _backward_weights(saved[0], g, plain),
    ),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _backward_weights(grad_y: Array, x: Array, plain: bytes) -> Array:
    return call("linear_backward_weights", grad_y, x)[0]


_backward_weights.defvjp(
    lambda grad_y, x, plain: (_backward_weights(grad_y, x, plain), (grad_y, x)),
    lambda plain, saved, g: (
        _linear(saved[1], g, None, Conv(plain, plain)),
        _backward_data(saved[0], g, plain),
    ),
)

_jitted = jax.jit(_linear, static_argnums=3)


def linear(x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    """Differentiable `cnnext.ops.linear` (torch.nn.functional.linear), with its shapes, dtypes and errors."""
    check_arrays("linear", "bias", x=x, weight=weight, bias=bias)
    return _jitted(x, weight, bias, conv_params(1, 0, 1, 1, activation, "auto"))
