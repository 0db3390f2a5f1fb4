"""What a call of the extension computes and moves: the multiplications that count, and bytes in and out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import _C


def _taps(weight_shape: Any) -> int:
    """Products for one element of a convolution's result: channels of a group by filter taps."""
    return math.prod(weight_shape[1:])


def _conv_macs(x_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any) -> int:
    """Of a convolution whose own result the call does not show."""
    pads = _C.parse_padding(0 if isinstance(padding, str) else padding)
    steps, spread = _C.parse_pair(stride, "stride"), _C.parse_pair(dilation, "dilation")
    outputs = math.prod(x_shape[:-3]) * weight_shape[0]
    for i in (0, 1):
        size, reach = x_shape[i - 2], spread[i] * (weight_shape[i + 2] - 1) + 1
        inside = size + (reach - 1 if padding == "same" else sum(pads[i])) - reach
        outputs *= inside // steps[i] + 1
    return outputs * _taps(weight_shape)


# A function of cnnext._C: the multiply-adds of a call, from its arguments and its result. Padding taps count,
# as is usual; activations, pools and norms do not.
_MACS: dict[str, Callable[[tuple, Any], int]] = {
    "conv2d": lambda args, y: math.prod(y.shape) * _taps(args[1].shape),
    "conv2d_backward_data": lambda args, _: math.prod(args[0].shape) * _taps(args[1].shape),
    "conv2d_backward_weights": lambda args, _: math.prod(args[0].shape) * _taps(args[2]),
    "conv2d_batch_norm": lambda args, y: (
        math.prod((y[0] if isinstance(y, tuple) else y).shape) * _taps(args[1].shape)
    ),
    "conv2d_relu_max_pool2d": lambda args, _: _conv_macs(args[0].shape, args[1].shape, *args[3:6]),
    "conv2d_relu_max_pool2d_backward": lambda args, _: (
        (args[11] + args[12]) * _conv_macs(args[2].shape, args[3].shape, *args[4:7])
    ),
    "conv_transpose2d": lambda args, _: math.prod(args[0].shape) * _taps(args[1].shape),
    "conv_transpose2d_backward_data": lambda args, x: math.prod(x.shape) * _taps(args[1].shape),
    "conv_transpose2d_backward_weights": lambda args, _: math.prod(args[1].shape) * _taps(args[2]),
    "linear": lambda args, y: math.prod(y.shape) * args[1].shape[1],
    "linear_backward_data": lambda args, _: math.prod(args[0].shape) * args[1].shape[1],
    "linear_backward_weights": lambda args, _: math.prod(args[0].shape) * args[1].shape[-1],
}


def macs(function: str, args: tuple, result: Any) -> int:
    """Multiply-adds of a call of that function of cnnext._C; 0 where they are not what it is for.

    And where an array does not tell its shape, as one that has __dlpack__ alone.
    """
    rule = _MACS.get(function)
    try:
        return rule(args, result) if rule else 0
    except AttributeError:
        return 0


def nbytes(*values: Any) -> int:
    """Of all arrays among these values, lists and tuples included; what else there is counts nothing."""
    total = 0
    for value in values:
        if isinstance(value, (list, tuple)):
            total += nbytes(*value)
        else:
            total += getattr(value, "nbytes", 0)
    return total
