"""Convolution and the dense layer.

Forward, backward-data and backward-weights are bilinear, and each is the gradient of the others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..autocast_mode import lowered
from ..autocast_mode import mode as autocast
from ..elementary import expand, reshape
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor, batched, records, unbatched
from .activation import activation_backward, apply_activation
from .padding import pad

# `geometry` is a dict of ops.conv2d's stride, padding, dilation, groups and algorithm.


@primitive
def _conv2d(x: Any, weight: Any, bias: Any, *, geometry: dict) -> Any:
    return ops.conv2d(x, weight, bias, **geometry)


@primitive
def _conv2d_relu(x: Any, weight: Any, bias: Any, *, geometry: dict) -> Any:
    return ops.conv2d(x, weight, bias, activation="relu", **geometry)


@primitive
def _conv2d_backward_data(grad_y: Any, weight: Any, *, shape: tuple[int, ...], geometry: dict) -> Any:
    return ops.conv2d_backward_data(grad_y, weight, shape, **geometry)


@primitive
def _conv2d_backward_weights(grad_y: Any, x: Any, *, shape: tuple[int, ...], geometry: dict) -> Any:
    return ops.conv2d_backward_weights(grad_y, x, shape, **geometry)


@primitive
def bias_grad(grad_y: Any) -> Any:
    """The sum over every axis but axis 1."""
    return ops.bias_grad(grad_y)


def _conv2d_relu_rule(
    g: Any, out: Any, x: Any, weight: Any, shapes: Any, geometry: dict, wanted: Any
) -> tuple:
    g = activation_backward(g, out, kind="relu", negative_slope=0.0)  # relu's mask can be read off its output
    return (
        _conv2d_backward_data(g, weight, shape=shapes[0], geometry=geometry) if wanted[0] else None,
        _conv2d_backward_weights(g, x, shape=shapes[1], geometry=geometry) if wanted[1] else None,
        bias_grad(g) if wanted[2] else None,
    )


defvjp(
    _conv2d,
    lambda g, weight, shapes, geometry: _conv2d_backward_data(g, weight, shape=shapes[0], geometry=geometry),
    lambda g, x, shapes, geometry: _conv2d_backward_weights(g, x, shape=shapes[1], geometry=geometry),
    lambda g: bias_grad(g),
)
defvjp(_conv2d_relu, joint=_conv2d_relu_rule)
defvjp(
    _conv2d_backward_data,
    lambda g, weight, geometry: _conv2d(g, weight, None, geometry=geometry),
    lambda g, grad_y, shapes, geometry: _conv2d_backward_weights(
        grad_y, g, shape=shapes[1], geometry=geometry
    ),
)
defvjp(
    _conv2d_backward_weights,
    lambda g, x, geometry: _conv2d(x, g, None, geometry=geometry),
    lambda g, grad_y, shapes, geometry: _conv2d_backward_data(grad_y, g, shape=shapes[1], geometry=geometry),
)
defvjp(
    bias_grad,
    lambda g, shapes: expand(reshape(g, shape=(1, -1) + (1,) * (len(shapes[0]) - 2)), shape=shapes[0]),
)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    algorithm: str = "auto",
) -> Tensor:
    """Differentiable cnnext.ops.conv2d (torch.nn.functional.conv2d).

    x: (N, C, H, W) or (C, H, W); weight: (K, C/groups, R, S); bias: (K,). activation: None or a name that
    ops.activation knows; relu is fused.
    """
    x, single = batched(x)
    if autocast.dtype is not None:
        x, weight, bias = lowered(x, weight, bias)
    geometry = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "algorithm": algorithm,
    }
    if activation is None:
        return unbatched(_conv2d(x, weight, bias, geometry=geometry), single)
    if activation == "relu":
        return unbatched(_conv2d_relu(x, weight, bias, geometry=geometry), single)
    return unbatched(apply_activation(_conv2d(x, weight, bias, geometry=geometry), activation), single)


# ---- transposed: its gradients are convolutions ----


@primitive
def _conv_transpose2d(x: Any, weight: Any, bias: Any, *, output_padding: Any, geometry: dict) -> Any:
    return ops.conv_transpose2d(x, weight, bias, output_padding=output_padding, **geometry)


defvjp(
    _conv_transpose2d,
    lambda g, weight, geometry: _conv2d(g, weight, None, geometry=geometry),
    lambda g, x, shapes, geometry: _conv2d_backward_weights(x, g, shape=shapes[1], geometry=geometry),
    lambda g: bias_grad(g),
)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, (int, np.integer)) else tuple(value)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str = "auto",
) -> Tensor:
    """Differentiable cnnext.ops.conv_transpose2d (torch's, too); weight: (C, K/groups, R, S)."""
    x, single = batched(x)
    if autocast.dtype is not None:
        x, weight, bias = lowered(x, weight, bias)
    geometry = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "algorithm": algorithm,
    }
    if records(x, weight, bias):
        x, output_padding = _whole_steps_as_zeros(x, stride, dilation, output_padding)
    return unbatched(
        _conv_transpose2d(x, weight, bias, output_padding=output_padding, geometry=geometry), single
    )


def _whole_steps_as_zeros(x: Tensor, stride: Any, dilation: Any, output_padding: Any) -> tuple[Tensor, Any]:
    """Output padding of a stride or more (allowed below the dilation) as zeros behind x.

    The result is the same, and the convolution of its gradient has x's size again.
    """
    try:
        (sh, sw), (dh, dw), (oh, ow) = _pair(stride), _pair(dilation), _pair(output_padding)
        extra = (oh // sh, ow // sw)
        valid = 0 <= oh < max(sh, dh) and 0 <= ow < max(sw, dw)
    except (TypeError, ValueError, ZeroDivisionError):
        return x, output_padding  # ops says what is wrong
    if extra == (0, 0) or not valid:
        return x, output_padding
    return pad(x, (0, extra[1], 0, extra[0])), (oh - extra[0] * sh, ow - extra[1] * sw)


# ---- dense ----


@primitive
def _linear(x: Any, weight: Any, bias: Any) -> Any:
    return ops.linear(x, weight, bias)


@primitive
def _linear_relu(x: Any, weight: Any, bias: Any) -> Any:
    return ops.linear(x, weight, bias, activation="relu")


@primitive
def _linear_backward_data(grad_y: Any, weight: Any) -> Any:
    return ops.linear_backward(grad_y, None, weight, needs=(True, False, False))[0]


@primitive
def _linear_backward_weights(grad_y: Any, x: Any) -> Any:
    return ops.linear_backward(grad_y, x, None, needs=(False, True, False))[1]


def _linear_bias_grad(g: Any) -> Any:
    return bias_grad(reshape(g, shape=(math.prod(g.shape[:-1]), g.shape[-1])))


def _linear_relu_rule(g: Any, out: Any, x: Any, weight: Any, wanted: Any) -> tuple:
    g = activation_backward(g, out, kind="relu", negative_slope=0.0)
    return (
        _linear_backward_data(g, weight) if wanted[0] else None,
        _linear_backward_weights(g, x) if wanted[1] else None,
        _linear_bias_grad(g) if wanted[2] else None,
    )


defvjp(
    _linear,
    lambda g, weight: _linear_backward_data(g, weight),
    lambda g, x: _linear_backward_weights(g, x),
    _linear_bias_grad,
)
defvjp(_linear_relu, joint=_linear_relu_rule)
defvjp(
    _linear_backward_data,
    lambda g, weight: _linear(g, weight, None),
    lambda g, grad_y: _linear_backward_weights(grad_y, g),
)
defvjp(
    _linear_backward_weights,
    lambda g, x: _linear(x, g, None),
    lambda g, grad_y: _linear_backward_data(grad_y, g),
)


def linear(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Tensor:
    """Differentiable cnnext.ops.linear (torch.nn.functional.linear): x (..., in) by weight (out, in).

    activation: as conv2d's, of the result; "relu" is one operation with it.
    """
    x = as_tensor(x)
    if autocast.dtype is not None:
        x, weight, bias = lowered(x, weight, bias)
    if activation == "relu":
        return _linear_relu(x, weight, bias)
    y = _linear(x, weight, bias)
    return y if activation is None else apply_activation(y, activation)
