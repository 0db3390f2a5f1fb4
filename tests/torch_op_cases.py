"""One call of each operation of torch.ops.cnnext in float64, for the checks that torch has for operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Case:
    """arguments(): the op's, tensors that may have gradients with requires_grad."""

    name: str
    op: str
    arguments: Callable[[], tuple[Any, ...]]


def normal(*shape: int, grad: bool = True, last: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 31 * len(shape))
    t = torch.randn(shape, generator=generator, dtype=torch.float64)
    if last:
        t = t.contiguous(memory_format=torch.channels_last)
    return t.requires_grad_(grad)


def distinct(*shape: int, grad: bool = True) -> Tensor:
    """Values so far apart that a maximum stays the same one under gradcheck's steps."""
    count = 1
    for size in shape:
        count *= size
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return ((order.double() - count / 2 + 0.25) / 7).reshape(shape).requires_grad_(grad)


def _indices(kind: str, *window: Any) -> Tensor:
    x = distinct(2, 3, 6, 7, grad=False)
    return torch.ops.cnnext.max_pool2d_with_indices(x, *window, kind)[1]


GEOMETRY = ([2, 1], [1, 0], [1, 2], 2)  # stride, padding, dilation, groups
PLAIN = ([1, 1], [0, 0], [1, 1], 1)
SIDES = ([1, 2], [1, 0, 2, 1], [1, 1], 1)
TRANSPOSED = ([2, 1], [1, 0], [1, 0], 2, [1, 2])  # stride, padding, output_padding, groups, dilation
WINDOW = ([3, 2], [2, 2], [1, 0], [1, 1], False)
CEIL = ([2, 3], [2, 2], [0, 1], [2, 1], True)
UNPOOL = ([2, 2], [2, 2], [0, 0])
POOL = ([2, 2], [2, 2], [0, 0])
STATISTICS = (
    torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64),
    torch.tensor([1.5, 0.7, 1.1], dtype=torch.float64),
)


def _fused_codes() -> Tensor:
    x, w, b = normal(2, 4, 6, 7, grad=False), normal(6, 2, 3, 2, grad=False), normal(6, grad=False)
    return torch.ops.cnnext.conv2d_relu_max_pool2d(x, w, b, *GEOMETRY, [2, 2], [1, 2], [0, 0])[1]


def _norm(training: bool, activation: str | None, affine: bool = True) -> tuple[Any, ...]:
    vectors = (normal(3), normal(3, grad=True) - 0.5) if affine else (None, None)
    return normal(2, 3, 4, 5), *vectors, *STATISTICS, training, 0.3, 1e-3, activation


def _norm_backward(training: bool, activation: str | None, needs: list[bool]) -> tuple[Any, ...]:
    x, weight = normal(2, 3, 4, 5), normal(3)
    y, mean, invstd, *_ = torch.ops.cnnext.batch_norm(
        x.detach(), weight.detach(), None, *STATISTICS, training, 0.3, 1e-3, activation
    )
    grad_y = normal(2, 3, 5, 4).detach().transpose(2, 3).contiguous().requires_grad_()
    return grad_y, x, weight, mean, invstd, y if activation else None, training, 1e-3, activation, needs


ALL = [True, True, True]
CASES = [
    Case("conv2d", "conv2d", lambda: (normal(2, 4, 6, 7), normal(6, 2, 3, 2), normal(6), *GEOMETRY)),
    Case(
        "conv2d four sides, unbatched", "conv2d",
        lambda: (normal(3, 6, 7), normal(4, 3, 3, 2), None, *SIDES),
    ),
    Case(
        "conv2d channels-last, relu, residual", "conv2d",
        lambda: (normal(2, 4, 6, 7, last=True), normal(6, 2, 3, 2), normal(6), *GEOMETRY, "relu",
                 normal(2, 6, 3, 5), "direct"),
    ),
    *[
        Case(f"conv2d {kind}", "conv2d",
             lambda kind=kind: (normal(1, 2, 4, 5), normal(3, 2, 3, 2), normal(3), *PLAIN, kind))
        for kind in ("relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")
    ],
    Case(
        "conv2d_backward_data", "conv2d_backward_data",
        lambda: (normal(2, 6, 3, 5), normal(6, 2, 3, 2), [2, 4, 6, 7], *GEOMETRY, "auto"),
    ),
    Case(
        "conv2d_backward_weights", "conv2d_backward_weights",
        lambda: (normal(2, 6, 3, 5), normal(2, 4, 6, 7), [6, 2, 3, 2], *GEOMETRY, "auto"),
    ),
    Case("bias_grad", "bias_grad", lambda: (normal(2, 3, 4, 5),)),
    Case("bias_grad unbatched", "bias_grad", lambda: (normal(3, 4, 5),)),
    Case(
        "conv_transpose2d", "conv_transpose2d",
        lambda: (normal(2, 4, 4, 5), normal(4, 3, 3, 2), normal(6), *TRANSPOSED),
    ),
    Case(
        "conv_transpose2d_backward_data", "conv_transpose2d_backward_data",
        lambda: (normal(2, 6, 8, 7), normal(4, 3, 3, 2), *TRANSPOSED),
    ),
    Case(
        "conv_transpose2d_backward_weights", "conv_transpose2d_backward_weights",
        lambda: (normal(2, 6, 8, 7), normal(2, 4, 4, 5), [4, 3, 3, 2], *TRANSPOSED),
    ),
    Case("linear", "linear", lambda: (normal(2, 3, 5), normal(4, 5), normal(4))),
    Case("linear relu", "linear", lambda: (normal(3, 5), normal(4, 5), normal(4), "relu")),
    Case("linear gelu", "linear", lambda: (normal(5), normal(4, 5), None, "gelu")),
    Case("linear_backward_data", "linear_backward_data", lambda: (normal(2, 3, 4), normal(4, 5))),
    Case("linear_backward_weights", "linear_backward_weights", lambda: (normal(2, 3, 4), normal(2, 3, 5))),
    Case("max_pool2d", "max_pool2d", lambda: (distinct(2, 3, 6, 7), *WINDOW)),
    Case("max_pool2d defaults", "max_pool2d", lambda: (distinct(3, 6, 7), [2, 3])),
    Case("max_pool2d_with_indices", "max_pool2d_with_indices", lambda: (distinct(2, 3, 6, 7), *CEIL)),
    Case(
        "max_pool2d_with_indices window codes", "max_pool2d_with_indices",
        lambda: (distinct(2, 3, 6, 7), *WINDOW, "window"),
    ),
    *[
        Case(f"max_pool2d_backward {kind}", "max_pool2d_backward",
             lambda kind=kind: (normal(2, 3, 3, 3), _indices(kind, *WINDOW), [2, 3, 6, 7], *WINDOW, kind))
        for kind in ("plane", "window")
    ],
    *[
        Case(f"max_pool2d_gather {kind}", "max_pool2d_gather",
             lambda kind=kind: (normal(2, 3, 6, 7), _indices(kind, *WINDOW), *WINDOW, kind))
        for kind in ("plane", "window")
    ],
    Case(
        "max_unpool2d", "max_unpool2d",
        lambda: (normal(2, 3, 3, 3), _indices("plane", *UNPOOL, [1, 1], False), *UNPOOL, [6, 7]),
    ),
    Case(
        "max_unpool2d window codes", "max_unpool2d",
        lambda: (normal(2, 3, 3, 3), _indices("window", *UNPOOL, [1, 1], False), *UNPOOL, [6, 7], "window"),
    ),
    *[
        Case(f"max_unpool2d_backward {kind}", "max_unpool2d_backward",
             lambda kind=kind: (normal(2, 3, 6, 7), _indices(kind, *UNPOOL, [1, 1], False), *UNPOOL, kind))
        for kind in ("plane", "window")
    ],
    Case(
        "conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d",
        lambda: (normal(2, 4, 6, 7), normal(6, 2, 3, 2), normal(6), *GEOMETRY, [2, 2], [1, 2], [0, 0]),
    ),
    Case(
        "conv2d_relu_max_pool2d_backward", "conv2d_relu_max_pool2d_backward",
        lambda: (normal(2, 6, 2, 2), _fused_codes(), normal(2, 4, 6, 7), normal(6, 2, 3, 2), *GEOMETRY,
                 [2, 2], [1, 2], [0, 0], ALL),
    ),
    Case(
        "conv2d_relu_max_pool2d_backward of the weight", "conv2d_relu_max_pool2d_backward",
        lambda: (normal(2, 6, 2, 2), _fused_codes(), normal(2, 4, 6, 7), normal(6, 2, 3, 2), *GEOMETRY,
                 [2, 2], [1, 2], [0, 0], [False, True, False]),
    ),
    Case("batch_norm", "batch_norm", lambda: _norm(True, None)),
    Case("batch_norm relu", "batch_norm", lambda: _norm(True, "relu")),
    Case("batch_norm relu6", "batch_norm", lambda: _norm(True, "relu6")),
    Case("batch_norm evaluation", "batch_norm", lambda: _norm(False, None)),
    Case("batch_norm without weight", "batch_norm", lambda: _norm(True, None, affine=False)),
    Case("batch_norm_backward", "batch_norm_backward", lambda: _norm_backward(True, None, ALL)),
    Case("batch_norm_backward relu", "batch_norm_backward", lambda: _norm_backward(True, "relu", ALL)),
    Case("batch_norm_backward relu6", "batch_norm_backward", lambda: _norm_backward(True, "relu6", ALL)),
    Case("batch_norm_backward evaluation", "batch_norm_backward", lambda: _norm_backward(False, None, ALL)),
    Case(
        "batch_norm_backward of the weight", "batch_norm_backward",
        lambda: _norm_backward(True, None, [False, True, False]),
    ),
]  # fmt: skip
