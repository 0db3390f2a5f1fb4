"""Activations and softmax.

relu, relu6 and leaky_relu keep their output for the gradient, the others their input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import _C, ops
from ..autocast_mode import raised
from ..elementary import copy, exp
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor, records

_KINDS = ("relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")


@primitive
def _activation(x: Any, *, kind: str, negative_slope: float) -> Any:
    return _C.activation(x, kind, negative_slope, None)


@primitive
def _activation_of_sign(x: Any, *, kind: str, negative_slope: float) -> Any:
    """A piecewise linear activation whose output tells which piece it is on: the input need not be kept."""
    return _C.activation(x, kind, negative_slope, None)


@primitive
def activation_backward(grad_y: Any, x: Any, *, kind: str, negative_slope: float) -> Any:
    """grad_y times the derivative at x, the input of the activation."""
    return _C.activation_backward(grad_y, x, kind, negative_slope, None)


def _gelu_tanh_second(x: Tensor) -> Tensor:
    c, a = math.sqrt(2 / math.pi), 0.044715
    t = tanh(c * (x + a * x**3))
    inner, inner2 = c * (1 + 3 * a * x**2), 6 * a * c * x
    slope = 1 - t * t
    return slope * inner + 0.5 * x * (slope * inner2 - 2 * t * slope * inner * inner)


def _silu_second(x: Tensor) -> Tensor:
    s = sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def _sigmoid_second(x: Tensor) -> Tensor:
    s = sigmoid(x)
    return s * (1 - s) * (1 - 2 * s)


def _tanh_second(x: Tensor) -> Tensor:
    t = tanh(x)
    return -2 * t * (1 - t * t)


_SECOND_DERIVATIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: exp(x * x * -0.5) * (2 - x * x) * (1 / math.sqrt(2 * math.pi)),
    "gelu_tanh": _gelu_tanh_second,
    "silu": _silu_second,
    "sigmoid": _sigmoid_second,
    "tanh": _tanh_second,
}


def _slope_rule(g: Any, grad_y: Any, x: Any, kind: str) -> Any:
    second = _SECOND_DERIVATIVE.get(kind)  # piecewise linear ones have none
    return None if second is None else g * grad_y * second(x)


defvjp(
    _activation,
    lambda g, x, kind, negative_slope: activation_backward(g, x, kind=kind, negative_slope=negative_slope),
)
defvjp(
    _activation_of_sign,
    lambda g, out, kind, negative_slope: activation_backward(
        g, out, kind=kind, negative_slope=negative_slope
    ),
)
defvjp(
    activation_backward,
    lambda g, x, kind, negative_slope: activation_backward(g, x, kind=kind, negative_slope=negative_slope),
    _slope_rule,
)


def apply_activation(x: Any, kind: str, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """The activation of that name, differentiable; kinds are those of cnnext.ops.activation."""
    x = as_tensor(x)
    if kind not in _KINDS:
        raise ValueError(f"activation={kind!r} must be one of {', '.join(_KINDS)}")
    keeps_output = kind in ("relu", "relu6") or (kind == "leaky_relu" and negative_slope > 0)
    primitive_ = _activation_of_sign if keeps_output else _activation
    if not inplace:
        return primitive_(x, kind=kind, negative_slope=negative_slope)
    if not records(x):
        ops.activation(x.data, kind, negative_slope=negative_slope, out=x.data)
        x._version.count += 1
        return x
    # What is overwritten cannot be kept for the gradient; a copy can.
    source = (lambda x: x) if keeps_output else copy
    return x._assign(lambda x: primitive_(source(x), kind=kind, negative_slope=negative_slope))


def relu(x: Any, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN."""
    if not inplace and isinstance(x, Tensor):  # the one that is called most
        return _activation_of_sign(x, kind="relu", negative_slope=0.01)
    return apply_activation(x, "relu", inplace=inplace)


def relu6(x: Any, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return apply_activation(x, "relu6", inplace=inplace)


def leaky_relu(x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, else negative_slope * x."""
    return apply_activation(x, "leaky_relu", negative_slope, inplace)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x); approximate="tanh" for the formula with tanh."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r} must be 'none' or 'tanh'")
    return apply_activation(x, "gelu" if approximate == "none" else "gelu_tanh")


def silu(x: Any, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)."""
    return apply_activation(x, "silu", inplace=inplace)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply_activation(x, "sigmoid")


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return apply_activation(x, "tanh")


# ---- softmax ----


@primitive
def _softmax(x: Any, *, dim: int | None) -> Any:
    return ops.softmax(x, dim)


@primitive
def _softmax_backward(grad_y: Any, y: Any, *, dim: int) -> Any:
    return ops.softmax_backward(grad_y, y, dim)


@primitive
def _log_softmax(x: Any, *, dim: int | None) -> Any:
    return ops.log_softmax(x, dim)


@primitive
def _log_softmax_backward(grad_y: Any, y: Any, *, dim: int) -> Any:
    return ops.log_softmax_backward(grad_y, y, dim)


defvjp(_softmax, lambda g, out, dim: _softmax_backward(g, out, dim=dim))
defvjp(  # y * (grad_y - sum(grad_y * y))
    _softmax_backward,
    lambda g, y, dim: _softmax_backward(g, y, dim=dim),
    lambda g, grad_y, y, dim: g * (grad_y - (grad_y * y).sum(dim, True)) - grad_y * (g * y).sum(dim, True),
)
defvjp(_log_softmax, lambda g, out, dim: _log_softmax_backward(g, out, dim=dim))
defvjp(  # grad_y - exp(y) * sum(grad_y)
    _log_softmax_backward,
    lambda g, y, dim: g - (g * exp(y)).sum(dim, True),
    lambda g, grad_y, y, dim: -g * exp(y) * grad_y.sum(dim, True),
)


def _dim(x: Tensor, dim: int | None) -> int:
    """torch's implicit rule: 0 for 0, 1 and 3 dimensions, else 1."""
    return dim if dim is not None else 0 if x.ndim in (0, 1, 3) else 1


def _with_dtype(x: Any, dtype: Any) -> Tensor:
    x = as_tensor(x)
    return raised(x) if dtype is None else x.to(dtype=dtype)


def softmax(x: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along dim; dtype: that x is cast to first (autocast: float32)."""
    x = _with_dtype(x, dtype)
    return _softmax(x, dim=_dim(x, dim))


def log_softmax(x: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """The logarithm of softmax, computed stably; dtype as softmax's."""
    x = _with_dtype(x, dtype)
    return _log_softmax(x, dim=_dim(x, dim))
