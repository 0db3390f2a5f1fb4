"""What a call of the extension computes and moves: the multiplications that count, and bytes in and out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def _taps(weight_shape: Any) -> int:
    """Products for one element of a convolution's result: channels of a group by filter taps."""
    return math.prod(weight_shape[1:])


# A function of cnnext._C: the multiply-adds of a call, from its arguments and its result. Padding taps count,
# as is usual; activations, pools and norms do not.
_MACS: dict[str, Callable[[tuple, Any], int]] = {
    "conv2d": lambda args, y: math.prod(y.shape) * _taps(args[1].shape),
    "conv2d_backward_data": lambda args, _: math.prod(args[0].shape) * _taps(args[1].shape),
    "conv2d_backward_weights": lambda args, _: math.prod(args[0].shape) * _taps(args[2]),
    "conv_transpose2d": lambda args, _: math.prod(args[0].shape) * _taps(args[1].shape),
    "conv_transpose2d_backward_data": lambda args, x: math.prod(x.shape) * _taps(args[1].shape),
    "conv_transpose2d_backward_weights": lambda args, _: math.prod(args[1].shape) * _taps(args[2]),
    "linear": lambda args, y: math.prod(y.shape) * args[1].shape[1],
    "linear_backward_data": lambda args, _: math.prod(args[0].shape) * args[1].shape[1],
    "linear_backward_weights": lambda args, _: math.prod(args[0].shape) * args[1].shape[-1],
}


def macs(function: str, args: tuple, result: Any) -> int:
    """Multiply-adds of a call of that function of cnnext._C; 0 where they are not what it is for."""
    rule = _MACS.get(function)
    return rule(args, result) if rule else 0


def nbytes(*values: Any) -> int:
    """Of all arrays among these values, lists and tuples included; what else there is counts nothing."""
    total = 0
    for value in values:
        if isinstance(value, (list, tuple)):
            total += nbytes(*value)
        else:
            total += getattr(value, "nbytes", 0)
    return total
