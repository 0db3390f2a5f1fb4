"""Convolution, ReLU and max-pool as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ..._arrays import Padding, Pair
from ._conv import bias_grad, conv2d_backward_data, conv2d_backward_weights, conv2d_op
from ._layout import (
    code_dtype,
    common_channels_last,
    conv_size,
    empty,
    flat_padding,
    image_like,
    packed,
    pair,
)
from ._op import Op, is_half, raw
from ._pool import _step, max_pool2d_backward, max_pool2d_gather

_GEOMETRY = "SymInt[2] stride, SymInt[] padding, SymInt[2] dilation, SymInt groups"
_POOL = "SymInt[2] pool_size, SymInt[2] pool_stride, SymInt[] pool_padding"


def _normal(
    x_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int, *pool: Any
) -> tuple[Any, ...]:
    size, pool_stride, pool_padding = pool
    padding = flat_padding(padding, x_shape[-2:], weight_shape[-2:], stride, dilation)
    inner = conv_size(x_shape[-2:], weight_shape[-2:], stride, padding, dilation)
    pool_stride = pair(_step(size, pool_stride))
    pool_padding = flat_padding(pool_padding, inner, size, pool_stride, 1)
    return pair(stride), padding, pair(dilation), groups, pair(size), pool_stride, pool_padding


def _runs_apart(x: Tensor) -> bool:
    """Do convolution and pool run one after the other? 16 bits do, and devices without such a kernel."""
    op = "conv2d_relu_max_pool2d_forward"
    return is_half(x) or (x.is_cuda and not _C.op_supported("cuda", op, "float32"))


# ---- forward ----


def _forward(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, size: Any,
    pool_stride: Any, pool_padding: Any, codes: bool = True,
) -> Any:  # fmt: skip
    arrays, geometry = (raw(x), raw(weight), raw(bias)), (stride, packed(padding), dilation, groups)
    pool = (size, pool_stride, packed(pool_padding))
    if not _runs_apart(x):
        return _C.conv2d_relu_max_pool2d(*arrays, *geometry, *pool, codes)
    # With the codes that the fused kernels would give.
    inner = _C.conv2d(*arrays, *geometry, "relu", None, "auto", None)
    if not codes:
        return _C.max_pool2d(inner, *pool, 1, False, False, "window", None)
    y, taps = _C.max_pool2d(inner, *pool, 1, False, True, "window", None)
    none = -1 if taps.dtype == torch.int32 else torch.iinfo(taps.dtype).max
    return y, torch.where(y <= 0, torch.tensor(none, dtype=taps.dtype, device=taps.device), taps)


def _light(*args: Any) -> tuple[Tensor]:
    return (_forward(*args, codes=False),)


def _fake(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, size: Any,
    pool_stride: Any, pool_padding: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    torch._check(x.ndim in (3, 4), lambda: f"x has shape {x.shape}; it must be (N, C, H, W) or (C, H, W)")
    torch._check(
        weight.ndim == 4 and x.shape[-3] == weight.shape[1] * groups,
        lambda: f"weight has shape {weight.shape} with groups={groups}; x has {x.shape[-3]} channels",
    )
    inner = conv_size(x.shape[-2:], weight.shape[-2:], stride, padding, dilation)
    pooled = conv_size(inner, pair(size), _step(size, pool_stride), pool_padding, 1)
    y = image_like(x, weight.shape[0], pooled)
    return y, image_like(x, weight.shape[0], pooled, code_dtype(size))


def _setup(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, *ctx.how = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _rule(ctx: Any, g: Tensor | None, _: Any) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 10
    x, weight, codes = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:3]]
    grads = conv2d_relu_max_pool2d_backward(g, codes, x, weight, *ctx.how, needs)
    return (*[grad if need else None for grad, need in zip(grads, needs, strict=True)], *[None] * 7)


conv2d_relu_max_pool2d_op = Op(
    f"conv2d_relu_max_pool2d(Tensor x, Tensor weight, Tensor? bias, {_GEOMETRY}, {_POOL}) "
    "-> (Tensor, Tensor)",
    _forward,
    _fake,
    _setup,
    _rule,
    normal=lambda x, weight, bias, *how: (x, weight, bias, *_normal(x.shape, weight.shape, *how)),
    cast=True,
    light=_light,
)

# ---- backward ----


def _backward(
    grad_y: Tensor, codes: Tensor, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any,
    groups: int, size: Any, pool_stride: Any, pool_padding: Any, needs: Sequence[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    arrays, geometry = (raw(grad_y), codes, raw(x), raw(weight)), (stride, packed(padding), dilation, groups)
    pool = (size, pool_stride, packed(pool_padding))
    if _runs_apart(x):
        with torch.no_grad():
            g = _unpooled(grad_y, codes, x, weight, *geometry, *pool)
            grads = _conv_gradients(g, x, weight, geometry, needs)
    else:
        grads = _C.conv2d_relu_max_pool2d_backward(*arrays, *geometry, *pool, *needs)
    return tuple(x.new_empty(0) if grad is None else grad for grad in grads)


def _conv_gradients(g: Tensor, x: Tensor, weight: Tensor, geometry: Any, needs: Sequence[bool]) -> list[Any]:
    return [
        conv2d_backward_data(g, weight, x.shape, *geometry, "auto") if needs[0] else None,
        conv2d_backward_weights(g, x, weight.shape, *geometry, "auto") if needs[1] else None,
        bias_grad(g) if needs[2] else None,
    ]


def _unpooled(
    grad_y: Tensor, codes: Tensor, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any,
    groups: int, *pool: Any,
) -> Tensor:  # fmt: skip
    """The gradient of the convolution's result. The codes know what the ReLU stopped."""
    flat = flat_padding(padding, x.shape[-2:], weight.shape[-2:], stride, dilation)
    inner = conv_size(x.shape[-2:], weight.shape[-2:], stride, flat, dilation)
    shape = (*x.shape[:-3], weight.shape[0], *inner)
    return max_pool2d_backward(grad_y, codes, shape, *pool, 1, False, "window")


def _backward_fake(grad_y: Tensor, codes: Tensor, x: Tensor, weight: Tensor, *how: Any) -> tuple[Tensor, ...]:
    needs = how[-1]
    last = common_channels_last(x, grad_y)
    return (
        empty(x, x.shape, last) if needs[0] else x.new_empty(0),
        empty(x, weight.shape) if needs[1] else x.new_empty(0),
        empty(x, (weight.shape[0] if needs[2] else 0,)),
    )


def _backward_setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    grad_y, codes, x, weight, *ctx.how, _ = inputs
    ctx.save_for_backward(grad_y, codes, x, weight)
    ctx.set_materialize_grads(False)


def _backward_rule(
    ctx: Any, of_x: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None
) -> tuple[Any, ...]:
    """Linear in grad_y, x and weight: what is given back is a convolution, read where the codes say."""
    grad_y, codes, x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = (
        t if t is not None and t.numel() else None for t in (of_x, of_weight, of_bias)
    )
    *geometry, size, stride, padding = ctx.how
    for_g = for_x = for_weight = None
    need_g, _, need_x, need_weight = ctx.needs_input_grad[:4]
    if need_g:
        parts = []
        if of_x is not None:
            parts.append(conv2d_op(of_x, weight, of_bias, *geometry, None, None, "auto"))
        if of_weight is not None:
            bias = of_bias if of_x is None else None
            parts.append(conv2d_op(x, of_weight, bias, *geometry, None, None, "auto"))
        if parts:
            whole = parts[0] if len(parts) == 1 else parts[0] + parts[1]
            for_g = max_pool2d_gather(whole, codes, size, stride, padding, 1, False, "window")
        elif of_bias is not None:
            stopped = -1 if codes.dtype == torch.int32 else torch.iinfo(codes.dtype).max
            for_g = of_bias.reshape(-1, 1, 1) * (codes != stopped)
    if (need_x and of_weight is not None) or (need_weight and of_x is not None):
        g = _unpooled(grad_y, codes, x, weight, *geometry, size, stride, padding)
        if need_x and of_weight is not None:
            for_x = conv2d_backward_data(g, of_weight, x.shape, *geometry, "auto")
        if need_weight and of_x is not None:
            for_weight = conv2d_backward_weights(g, of_x, weight.shape, *geometry, "auto")
    return for_g, None, for_x, for_weight, *[None] * 8


conv2d_relu_max_pool2d_backward = Op(
    "conv2d_relu_max_pool2d_backward(Tensor grad_y, Tensor codes, Tensor x, Tensor weight, "
    f"{_GEOMETRY}, {_POOL}, bool[3] needs) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    _backward_setup,
    _backward_rule,
    normal=lambda g, codes, x, weight, *how: (
        g, codes, x, weight, *_normal(x.shape, weight.shape, *how[:-1]), how[-1],
    ),
)  # fmt: skip


def conv2d_relu_max_pool2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    pool_size: Pair,
    pool_stride: Pair | None = None,
    pool_padding: Padding = 0,
) -> Tensor:
    """max_pool2d(relu(conv2d(x, weight, bias))), differentiable, without the results between them.

    Parameters as cnnext.ops.conv2d_relu_max_pool2d's; the gradient keeps x and one byte a window.
    Of float16 and bfloat16, and on CUDA, convolution and pool run one after the other.
    `torch.ops.cnnext.conv2d_relu_max_pool2d` gives (y, codes).
    """
    return conv2d_relu_max_pool2d_op(
        x, weight, bias, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding
    )[0]
