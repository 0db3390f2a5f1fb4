"""Convolution and transposed convolution: operations whose gradients are each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ..._arrays import Padding, Pair
from . import _activation as activations
from ._layout import conv_size, empty, flat_padding, image_like, packed, pair
from ._op import Op, is_recorded, raw

# ---- the sum over a channel ----


def _bias_grad(grad_y: Tensor) -> Tensor:
    g = raw(grad_y)
    return _C.bias_grad(g.unsqueeze(0) if g.ndim == 3 else g, None)


def _channels(t: Tensor) -> Any:
    return t.shape[0 if t.ndim == 3 else 1]


def _bias_grad_setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    ctx.shape = inputs[0].shape


def _bias_grad_rule(ctx: Any, g: Tensor) -> Tensor:
    shape = [1] * len(ctx.shape)
    shape[0 if len(shape) == 3 else 1] = -1
    return g.reshape(shape).expand(ctx.shape)


#: Of (N, C, ...) or an image (C, H, W).
bias_grad = Op(
    "bias_grad(Tensor grad_y) -> Tensor",
    _bias_grad,
    lambda grad_y: empty(grad_y, (_channels(grad_y),)),
    _bias_grad_setup,
    _bias_grad_rule,
)

# ---- convolution ----

_GEOMETRY = "SymInt[2] stride, SymInt[] padding, SymInt[2] dilation, SymInt groups, str algorithm"


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    residual: Tensor | None = None,
    algorithm: str = "auto",
) -> Tensor:
    return _C.conv2d(
        raw(x), raw(weight), raw(bias), stride, packed(padding), dilation, groups, activation, raw(residual),
        algorithm, None,
    )  # fmt: skip


def _conv2d_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    residual: Tensor | None = None,
    algorithm: str = "auto",
) -> Tensor:
    torch._check(x.ndim in (3, 4), lambda: f"x has shape {x.shape}; it must be (N, C, H, W) or (C, H, W)")
    torch._check(weight.ndim == 4, lambda: f"weight has shape {weight.shape}; it must be (K, C/groups, R, S)")
    torch._check(
        x.shape[-3] == weight.shape[1] * groups,
        lambda: f"weight has shape {weight.shape} with groups={groups}; x has {x.shape[-3]} channels",
    )
    return image_like(
        x, weight.shape[0], conv_size(x.shape[-2:], weight.shape[-2:], stride, padding, dilation)
    )


def _conv2d_normal(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, *rest: Any
) -> Sequence[Any]:
    dilation = rest[0]
    padding = flat_padding(padding, x.shape[-2:], weight.shape[-2:], stride, dilation)
    return (x, weight, bias, pair(stride), padding, pair(dilation), *rest[1:])


def _conv2d_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    x, weight, bias, stride, padding, dilation, groups, activation, residual, algorithm = inputs
    need_x, need_weight, *_ = ctx.needs_input_grad
    x_shape = weight_shape = None  # of what is not saved
    if activation is None and need_x and need_weight:
        ctx.save_for_backward(x, weight)
    elif activations.needs_input(activation):
        ctx.save_for_backward(x, weight, bias, residual)
    else:
        x_shape, weight_shape = x.shape, weight.shape
        y = None if activation is None else output
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None, y)
    ctx.how = (stride, padding, dilation, groups, algorithm), activation, x_shape, weight_shape


def _conv2d_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, weight, *rest = ctx.saved_tensors
    geometry, activation, x_shape, weight_shape = ctx.how
    if activation is not None:
        # What the activation was given, where only that tells its slope, is computed again.
        def given() -> Tensor:
            *how, algorithm = geometry
            return conv2d_op(x, weight, rest[0], *how, None, rest[1], algorithm)

        g = activations.gradient(g, activation, rest[0], given)
    need_x, need_weight, need_bias, *_, need_residual, _ = ctx.needs_input_grad
    return (
        conv2d_backward_data(g, weight, x_shape or x.shape, *geometry) if need_x else None,
        conv2d_backward_weights(g, x, weight_shape or weight.shape, *geometry) if need_weight else None,
        bias_grad(g) if need_bias else None,
        None, None, None, None, None,
        g if need_residual else None,
        None,
    )  # fmt: skip


conv2d_op = Op(
    "conv2d(Tensor x, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, "
    "SymInt[2] dilation=1, SymInt groups=1, str? activation=None, Tensor? residual=None, "
    'str algorithm="auto") -> Tensor',
    _conv2d,
    _conv2d_fake,
    _conv2d_setup,
    _conv2d_rule,
    normal=_conv2d_normal,
    cast=True,
)


def _backward_data(
    grad_y: Tensor, weight: Tensor, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    algorithm: str,
) -> Tensor:  # fmt: skip
    return _C.conv2d_backward_data(
        raw(grad_y), raw(weight), shape, stride, packed(padding), dilation, groups, algorithm, None
    )


def _backward_data_normal(grad_y: Tensor, weight: Tensor, shape: Any, *geometry: Any) -> Sequence[Any]:
    return (grad_y, weight, shape, *_normal_geometry(shape, weight.shape, *geometry))


def _normal_geometry(
    x_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int, algorithm: str
) -> Sequence[Any]:
    padding = flat_padding(padding, x_shape[-2:], weight_shape[-2:], stride, dilation)
    return pair(stride), padding, pair(dilation), groups, algorithm


def _backward_data_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    grad_y, weight, _, *geometry = inputs
    need_grad, need_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(grad_y if need_weight else None, weight if need_grad else None)
    ctx.weight_shape, ctx.geometry = weight.shape, geometry


def _backward_data_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, weight = ctx.saved_tensors
    *geometry, algorithm = ctx.geometry
    return (
        conv2d_op(g, weight, None, *geometry, None, None, algorithm) if ctx.needs_input_grad[0] else None,
        conv2d_backward_weights(grad_y, g, ctx.weight_shape, *ctx.geometry)
        if ctx.needs_input_grad[1]
        else None,
        *[None] * 6,
    )


conv2d_backward_data = Op(
    f"conv2d_backward_data(Tensor grad_y, Tensor weight, SymInt[] input_shape, {_GEOMETRY}) -> Tensor",
    _backward_data,
    lambda grad_y, weight, shape, *geometry: image_like(grad_y, shape[-3], shape[-2:]),
    _backward_data_setup,
    _backward_data_rule,
    normal=_backward_data_normal,
)


def _backward_weights(
    grad_y: Tensor,
    x: Tensor,
    shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str,
) -> Tensor:
    return _C.conv2d_backward_weights(
        raw(grad_y), raw(x), shape, stride, packed(padding), dilation, groups, algorithm, None
    )


def _backward_weights_normal(grad_y: Tensor, x: Tensor, shape: Any, *geometry: Any) -> Sequence[Any]:
    return (grad_y, x, shape, *_normal_geometry(x.shape, shape, *geometry))


def _backward_weights_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    grad_y, x, _, *geometry = inputs
    need_grad, need_x = ctx.needs_input_grad[:2]
    ctx.save_for_backward(grad_y if need_x else None, x if need_grad else None)
    ctx.x_shape, ctx.geometry = x.shape, geometry


def _backward_weights_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, x = ctx.saved_tensors
    *geometry, algorithm = ctx.geometry
    return (
        conv2d_op(x, g, None, *geometry, None, None, algorithm) if ctx.needs_input_grad[0] else None,
        conv2d_backward_data(grad_y, g, ctx.x_shape, *ctx.geometry) if ctx.needs_input_grad[1] else None,
        *[None] * 6,
    )


conv2d_backward_weights = Op(
    f"conv2d_backward_weights(Tensor grad_y, Tensor x, SymInt[] weight_shape, {_GEOMETRY}) -> Tensor",
    _backward_weights,
    lambda grad_y, x, shape, *geometry: empty(x, shape),
    _backward_weights_setup,
    _backward_weights_rule,
    normal=_backward_weights_normal,
)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    algorithm: str = "auto",
) -> Tensor:
    """Differentiable `cnnext.ops.conv2d` (torch.nn.functional.conv2d); `torch.ops.cnnext.conv2d`.

    Parameters, shapes, dtypes and errors are cnnext.ops.conv2d's; weight is a tensor. The result has x's
    memory format. gelu and silu are computed apart where gradients are recorded: theirs need what they were
    given.
    """
    if activations.needs_input(activation) and is_recorded(x, weight, bias, residual):
        y = conv2d_op(x, weight, bias, stride, padding, dilation, groups, None, residual, algorithm)
        return activations.apart(activation, y)
    return conv2d_op(x, weight, bias, stride, padding, dilation, groups, activation, residual, algorithm)
