"""Convolution and transposed convolution: operations whose gradients are each other."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ... import _C
from ..._arrays import Padding, Pair
from . import _activation as activations
from ._arguments import check_arrays
from ._call import Static, call

# ---- the sum over a channel ----


@jax.custom_vjp
def bias_grad(grad_y: Array) -> Array:
    """(C,) of (N, C, ...) or of an image (C, H, W)."""
    return call("bias_grad", grad_y[None] if grad_y.ndim == 3 else grad_y)[0]


def _spread(shape: tuple[int, ...], g: Array) -> tuple[Array]:
    behind = 2 if len(shape) == 3 else len(shape) - 2
    return (jnp.broadcast_to(g.reshape(-1, *[1] * behind), shape),)


bias_grad.defvjp(lambda grad_y: (bias_grad(grad_y), Static(grad_y.shape)), _spread)

# ---- convolution ----


class Conv(NamedTuple):
    """A convolution's parameters: those of the C ABI, with and without the activation."""

    fused: bytes
    plain: bytes
    activation: str | None = None


def conv_params(
    stride: Pair, padding: Padding, dilation: Pair, groups: int, activation: str | None, algorithm: str
) -> Conv:
    """The parameters, judged by the rules of cnnext.ops as far as they need no shapes."""
    fused = _C.conv2d_params(stride, padding, dilation, groups, 0, activation, algorithm)
    plain = _C.conv2d_params(stride, padding, dilation, groups, 0, None, algorithm)
    return Conv(fused, plain, activation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _conv2d(x: Array, weight: Array, bias: Array | None, residual: Array | None, how: Conv) -> Array:
    return call("conv2d", x, weight, bias, residual, params=how.fused)[0]


def _conv2d_forward(x: Array, weight: Array, bias: Any, residual: Any, how: Conv) -> Any:
    if activations.needs_input(how.activation):
        kept = _conv2d(x, weight, bias, residual, Conv(how.plain, how.plain))
        y = activations.apart(how.activation, kept)
    else:
        y = _conv2d(x, weight, bias, residual, how)
        kept = None if how.activation is None else y
    # () and None, which hold no arrays, say which of the optional inputs there were.
    optional = tuple(None if a is None else () for a in (bias, residual))
    return y, (x, weight, kept, optional)


def _conv2d_backward(how: Conv, saved: Any, g: Array) -> tuple[Any, ...]:
    x, weight, kept, (bias, residual) = saved
    g = activations.gradient(g, how.activation, kept)
    return (
        backward_data(g, weight, x.shape, how.plain),
        backward_weights(g, x, weight.shape, how.plain),
        None if bias is None else bias_grad(g),
        None if residual is None else g,
    )


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def backward_data(grad_y: Array, weight: Array, shape: tuple[int, ...], params: bytes) -> Array:
    """The gradient of conv2d's x, of that shape."""
    return call("conv2d_backward_data", grad_y, weight, params=params, shape=shape)[0]


backward_data.defvjp(
    lambda grad_y, weight, shape, params: (backward_data(grad_y, weight, shape, params), (grad_y, weight)),
    lambda shape, params, saved, g: (
        _conv2d(g, saved[1], None, None, Conv(params, params)),
        backward_weights(saved[0], g, saved[1].shape, params),
    ),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def backward_weights(grad_y: Array, x: Array, shape: tuple[int, ...], params: bytes) -> Array:
    """The gradient of conv2d's weight, of that shape."""
    return call("conv2d_backward_weights", grad_y, x, params=params, shape=shape)[0]


backward_weights.defvjp(
    lambda grad_y, x, shape, params: (backward_weights(grad_y, x, shape, params), (grad_y, x)),
    lambda shape, params, saved, g: (
        _conv2d(saved[1], g, None, None, Conv(params, params)),
        backward_data(saved[0], g, saved[1].shape, params),
    ),
)

_conv2d_jitted = jax.jit(_conv2d, static_argnums=4)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    residual: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Differentiable `cnnext.ops.conv2d` (torch.nn.functional.conv2d).

    Parameters, shapes, dtypes and errors are cnnext.ops.conv2d's; arrays are row-major, as JAX's are: NCHW.
    gelu and silu are computed apart where gradients are taken: theirs need what they were given.
    """
    check_arrays("conv2d", "bias residual", x=x, weight=weight, bias=bias, residual=residual)
    how = conv_params(stride, padding, dilation, groups, activation, algorithm)
    return _conv2d_jitted(x, weight, bias, residual, how)


# ---- transposed convolution ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _transpose(x: Array, weight: Array, bias: Array | None, params: bytes) -> Array:
    return call("conv_transpose2d", x, weight, bias, params=params)[0]


def _transpose_forward(x: Array, weight: Array, bias: Array | None, params: bytes) -> Any:
    return _transpose(x, weight, bias, params), (x, weight, None if bias is None else ())


def _transpose_backward(params: bytes, saved: Any, g: Array) -> tuple[Any, ...]:
    x, weight, bias = saved
    return (
        _adjoint(g, weight, params),
        _transpose_weights(g, x, weight.shape, params),
        None if bias is None else bias_grad(g),
    )


_transpose.defvjp(_transpose_forward, _transpose_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _adjoint(grad_y: Array, weight: Array, params: bytes) -> Array:
    """The gradient of x: a convolution that leaves the output_padding out at the end."""
    return call("conv2d", grad_y, weight, None, None, params=params)[0]


_adjoint.defvjp(
    lambda grad_y, weight, params: (_adjoint(grad_y, weight, params), (grad_y, weight)),
    lambda params, saved, g: (
        _transpose(g, saved[1], None, params),
        _transpose_weights(saved[0], g, saved[1].shape, params),
    ),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transpose_weights(grad_y: Array, x: Array, shape: tuple[int, ...], params: bytes) -> Array:
    return call("conv2d_backward_weights", x, grad_y, params=params, shape=shape)[0]


_transpose_weights.defvjp(
    lambda grad_y, x, shape, params: (_transpose_weights(grad_y, x, shape, params), (grad_y, x)),
    lambda shape, params, saved, g: (_transpose(saved[1], g, None, params), _adjoint(saved[0], g, params)),
)

_transpose_jitted = jax.jit(_transpose, static_argnums=3)


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    algorithm: str = "auto",
) -> Array:
    """Differentiable `cnnext.ops.conv_transpose2d` (torch's), whose parameters, shapes and errors it has."""
    check_arrays("conv_transpose2d", "bias", x=x, weight=weight, bias=bias)
    params = _C.conv2d_params(stride, padding, dilation, groups, output_padding, None, algorithm)
    return _transpose_jitted(x, weight, bias, params)
