"""Transposed convolution and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ..._arrays import Padding, Pair
from ._conv import bias_grad
from ._layout import empty, flat_padding, image_like, packed, pair, sides
from ._op import Op, raw

_GEOMETRY = "SymInt[2] stride, SymInt[] padding, SymInt[2] output_padding, SymInt groups, SymInt[2] dilation"


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    algorithm: str = "auto",
) -> Tensor:
    return _C.conv_transpose2d(
        raw(x),
        raw(weight),
        raw(bias),
        stride,
        packed(padding),
        output_padding,
        groups,
        dilation,
        algorithm,
        None,
    )


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    algorithm: str = "auto",
) -> Tensor:
    torch._check(x.ndim in (3, 4), lambda: f"x has shape {x.shape}; it must be (N, C, H, W) or (C, H, W)")
    torch._check(weight.ndim == 4, lambda: f"weight has shape {weight.shape}; it must be (C, K/groups, R, S)")
    torch._check(
        x.shape[-3] == weight.shape[0],
        lambda: f"weight has shape {weight.shape}; x has {x.shape[-3]} channels",
    )
    size = []
    for n, r, s, (before, after), extra, d in zip(
        x.shape[-2:], weight.shape[-2:], pair(stride), sides(pair(padding)), pair(output_padding),
        pair(dilation), strict=True,
    ):  # fmt: skip
        size.append((n - 1) * s - before - after + d * (r - 1) + extra + 1)
    return image_like(x, weight.shape[1] * groups, size)


def _normal_geometry(
    stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> Sequence[Any]:
    if padding == "same":
        raise ValueError("padding is 'same'; for a transposed convolution it must be numbers or 'valid'")
    return (
        pair(stride), flat_padding(padding, (), (), (), ()), pair(output_padding), groups, pair(dilation)
    )  # fmt: skip


def _setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    x, weight, _, *geometry, _ = inputs
    need_x, need_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
    ctx.weight_shape, ctx.geometry = weight.shape, geometry


def _rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    return (
        conv_transpose2d_backward_data(g, weight, *ctx.geometry) if need_x else None,
        conv_transpose2d_backward_weights(g, x, ctx.weight_shape, *ctx.geometry) if need_weight else None,
        bias_grad(g) if need_bias else None,
        *[None] * 6,
    )


conv_transpose2d_op = Op(
    "conv_transpose2d(Tensor x, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, "
    'SymInt[2] output_padding=0, SymInt groups=1, SymInt[2] dilation=1, str algorithm="auto") -> Tensor',
    _forward,
    _fake,
    _setup,
    _rule,
    normal=lambda x, weight, bias, *rest: (x, weight, bias, *_normal_geometry(*rest[:5]), rest[5]),
    cast=True,
)


def _backward_data(grad_y: Tensor, weight: Tensor, stride: Any, padding: Any, *rest: Any) -> Tensor:
    return _C.conv_transpose2d_backward_data(raw(grad_y), raw(weight), stride, packed(padding), *rest)


def _backward_data_fake(
    grad_y: Tensor, weight: Tensor, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> Tensor:
    size = []
    for p, r, s, (before, after), extra, d in zip(
        grad_y.shape[-2:], weight.shape[-2:], pair(stride), sides(padding), pair(output_padding),
        pair(dilation), strict=True,
    ):  # fmt: skip
        size.append((p + before + after - d * (r - 1) - extra - 1) // s + 1)
    return image_like(grad_y, weight.shape[0], size)


def _backward_data_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    grad_y, weight, *geometry = inputs
    need_grad, need_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(grad_y if need_weight else None, weight if need_grad else None)
    ctx.weight_shape, ctx.geometry = weight.shape, geometry


def _backward_data_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, weight = ctx.saved_tensors
    need_grad, need_weight = ctx.needs_input_grad[:2]
    return (
        conv_transpose2d_op(g, weight, None, *ctx.geometry, "auto") if need_grad else None,
        conv_transpose2d_backward_weights(grad_y, g, ctx.weight_shape, *ctx.geometry)
        if need_weight
        else None,
        *[None] * 5,
    )


conv_transpose2d_backward_data = Op(
    f"conv_transpose2d_backward_data(Tensor grad_y, Tensor weight, {_GEOMETRY}) -> Tensor",
    _backward_data,
    _backward_data_fake,
    _backward_data_setup,
    _backward_data_rule,
    normal=lambda grad_y, weight, *rest: (grad_y, weight, *_normal_geometry(*rest)),
)


def _backward_weights(grad_y: Tensor, x: Tensor, shape: Any, stride: Any, padding: Any, *rest: Any) -> Tensor:
    return _C.conv_transpose2d_backward_weights(raw(grad_y), raw(x), shape, stride, packed(padding), *rest)


def _backward_weights_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    grad_y, x, _, *geometry = inputs
    need_grad, need_x = ctx.needs_input_grad[:2]
    ctx.save_for_backward(grad_y if need_x else None, x if need_grad else None)
    ctx.geometry = geometry


def _backward_weights_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, x = ctx.saved_tensors
    need_grad, need_x = ctx.needs_input_grad[:2]
    return (
        conv_transpose2d_op(x, g, None, *ctx.geometry, "auto") if need_grad else None,
        conv_transpose2d_backward_data(grad_y, g, *ctx.geometry) if need_x else None,
        *[None] * 6,
    )


conv_transpose2d_backward_weights = Op(
    "conv_transpose2d_backward_weights(Tensor grad_y, Tensor x, SymInt[] weight_shape, "
    f"{_GEOMETRY}) -> Tensor",
    _backward_weights,
    lambda grad_y, x, shape, *geometry: empty(x, shape),
    _backward_weights_setup,
    _backward_weights_rule,
    normal=lambda grad_y, x, shape, *rest: (grad_y, x, shape, *_normal_geometry(*rest)),
)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    algorithm: str = "auto",
) -> Tensor:
    """Differentiable `cnnext.ops.conv_transpose2d` (torch's); `torch.ops.cnnext.conv_transpose2d`.

    Parameters, shapes, dtypes and errors are cnnext.ops.conv_transpose2d's.
    """
    return conv_transpose2d_op(x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm)
