"""Element-wise and per-channel operations on arrays."""

from __future__ import annotations

from . import _C
from ._arrays import Array

_SLOPE = 0.01


def relu(x: Array, *, out: Array | None = None) -> Array:
    """max(x, 0), keeping NaN: torch.nn.functional.relu.

    x: any shape, float32, float64, float16 or bfloat16.
    """
    return _C.activation(x, "relu", _SLOPE, out)


def relu6(x: Array, *, out: Array | None = None) -> Array:
    """min(max(x, 0), 6): torch.nn.functional.relu6."""
    return _C.activation(x, "relu6", _SLOPE, out)


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """x where x > 0, else negative_slope * x: torch.nn.functional.leaky_relu."""
    return _C.activation(x, "leaky_relu", negative_slope, out)


def gelu(x: Array, approximate: str = "none", *, out: Array | None = None) -> Array:
    """x Phi(x) by erf, or by tanh with approximate="tanh": torch.nn.functional.gelu."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; it must be 'none' or 'tanh'")
    return _C.activation(x, "gelu" if approximate == "none" else "gelu_tanh", _SLOPE, out)


def silu(x: Array, *, out: Array | None = None) -> Array:
    """x sigmoid(x): torch.nn.functional.silu."""
    return _C.activation(x, "silu", _SLOPE, out)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)): torch.sigmoid."""
    return _C.activation(x, "sigmoid", _SLOPE, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """tanh(x): torch.tanh."""
    return _C.activation(x, "tanh", _SLOPE, out)


def activation(x: Array, kind: str, *, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """An activation by its name: relu, relu6, leaky_relu, gelu, gelu_tanh, silu, sigmoid or tanh."""
    return _C.activation(x, kind, negative_slope, out)


def activation_backward(
    grad_y: Array, x: Array, kind: str, *, negative_slope: float = 0.01, out: Array | None = None
) -> Array:
    """The gradient of activation's x; x is what the activation was given, not its result."""
    return _C.activation_backward(grad_y, x, kind, negative_slope, out)


def add(x: Array, y: Array, *, out: Array | None = None) -> Array:
    """x + y, of one shape and dtype: torch.add without broadcasting."""
    return _C.add(x, y, out)


def bias_add(x: Array, bias: Array, *, out: Array | None = None) -> Array:
    """x (N, C, ...) + bias (C,) over axis 1."""
    return _C.bias_add(x, bias, out)


def bias_grad(grad_y: Array, *, out: Array | None = None) -> Array:
    """The sum of grad_y (N, C, ...) over every axis but axis 1: (C,)."""
    return _C.bias_grad(grad_y, out)


def dropout(
    x: Array, p: float = 0.5, training: bool = True, *, seed: int, offset: int = 0, out: Array | None = None
) -> Array:
    """Zeros with probability p, the rest times 1/(1 - p): torch.nn.functional.dropout, another generator.

    Philox4x32-10, keyed by seed at offset + position in memory order: the same arguments give the same
    result, and the same call on grad_y is its backward. training False: a copy of x.
    """
    if not training:
        _C.dropout(x, p, seed, offset, None) if not 0.0 <= p <= 1.0 else None  # its own error message
        return _C.dropout(x, 0.0, seed, offset, out)
    return _C.dropout(x, p, seed, offset, out)


def contiguous(x: Array, *, channels_last: bool = False, out: Array | None = None) -> Array:
    """A dense copy of x, any dtype: row-major, or with channels innermost for (N, C, H, W) and (C, H, W)."""
    return _C.contiguous(x, channels_last, out)
