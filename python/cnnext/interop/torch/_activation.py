"""The gradients of what convolution and linear compute at their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_aten = torch.ops.aten

#: By the activation's result, which need not keep its input.
_FROM_RESULT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda g, y: _aten.threshold_backward(g, y, 0),
    "relu6": lambda g, y: _aten.hardtanh_backward(g, y, 0.0, 6.0),
    "leaky_relu": lambda g, y: _aten.leaky_relu_backward(g, y, 0.01, False),
    "sigmoid": lambda g, y: _aten.sigmoid_backward(g, y),
    "tanh": lambda g, y: _aten.tanh_backward(g, y),
}
_FROM_INPUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": lambda g, x: _aten.gelu_backward(g, x),
    "gelu_tanh": lambda g, x: _aten.gelu_backward(g, x, approximate="tanh"),
    "silu": lambda g, x: g * (s := x.sigmoid()) * (1 + x * (1 - s)),  # aten's has no gradient of its own
}
_APART: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}


def needs_input(kind: str | None) -> bool:
    """Is the activation's gradient made of its input, which the fused operation does not keep?"""
    return kind in _FROM_INPUT


def apart(kind: str, x: Tensor) -> Tensor:
    """Such an activation by itself."""
    return _APART[kind](x)


def gradient(g: Tensor, kind: str, y: Tensor | None, x: Any) -> Tensor:
    """g through the activation. y: its result; x(): its input, asked for where the result does not tell."""
    if kind in _FROM_INPUT:
        return _FROM_INPUT[kind](g, x())
    return _FROM_RESULT[kind](g, y)
