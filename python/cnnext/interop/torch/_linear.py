"""Linear for torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from . import _activation as activations
from ._conv import bias_grad
from ._layout import empty
from ._op import Op, is_recorded, raw


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    return _C.linear(raw(x), raw(weight), raw(bias), activation, None)


def _linear_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    torch._check(
        x.ndim > 0 and weight.ndim == 2 and x.shape[-1] == weight.shape[1],
        lambda: f"weight has shape {weight.shape}; it must be (out, in), and x (..., in), is {x.shape}",
    )
    return empty(x, (*x.shape[:-1], weight.shape[0]))


def _setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    x, weight, bias, activation = inputs
    need_x, need_weight = ctx.needs_input_grad[:2]
    ctx.activation = activation
    if activations.needs_input(activation):
        ctx.save_for_backward(x, weight, bias)
    else:
        y = None if activation is None else output
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None, y)


def _rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, weight, rest = ctx.saved_tensors
    if ctx.activation is not None:
        g = activations.gradient(g, ctx.activation, rest, lambda: linear_op(x, weight, rest, None))
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    return (
        linear_backward_data(g, weight) if need_x else None,
        linear_backward_weights(g, x) if need_weight else None,
        bias_grad(g.reshape(-1, g.shape[-1])) if need_bias else None,
        None,
    )


linear_op = Op(
    "linear(Tensor x, Tensor weight, Tensor? bias=None, str? activation=None) -> Tensor",
    _linear,
    _linear_fake,
    _setup,
    _rule,
    cast=True,
)


def _save_both(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    first, second = inputs
    need_first, need_second = ctx.needs_input_grad[:2]
    ctx.save_for_backward(first if need_second else None, second if need_first else None)


def _backward_data_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, weight = ctx.saved_tensors
    need_grad, need_weight = ctx.needs_input_grad[:2]
    return (
        linear_op(g, weight, None, None) if need_grad else None,
        linear_backward_weights(grad_y, g) if need_weight else None,
    )


linear_backward_data = Op(
    "linear_backward_data(Tensor grad_y, Tensor weight) -> Tensor",
    lambda grad_y, weight: _C.linear_backward_data(raw(grad_y), raw(weight), None),
    lambda grad_y, weight: empty(grad_y, (*grad_y.shape[:-1], weight.shape[1])),
    _save_both,
    _backward_data_rule,
)


def _backward_weights_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    grad_y, x = ctx.saved_tensors
    need_grad, need_x = ctx.needs_input_grad[:2]
    return (
        linear_op(x, g, None, None) if need_grad else None,
        linear_backward_data(grad_y, g) if need_x else None,
    )


linear_backward_weights = Op(
    "linear_backward_weights(Tensor grad_y, Tensor x) -> Tensor",
    lambda grad_y, x: _C.linear_backward_weights(raw(grad_y), raw(x), None),
    lambda grad_y, x: empty(x, (grad_y.shape[-1], x.shape[-1])),
    _save_both,
    _backward_weights_rule,
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    """Differentiable `cnnext.ops.linear` (torch.nn.functional.linear); `torch.ops.cnnext.linear`.

    Parameters, shapes, dtypes and errors are cnnext.ops.linear's.
    """
    if activations.needs_input(activation) and is_recorded(x, weight, bias):
        return activations.apart(activation, linear_op(x, weight, bias, None))
    return linear_op(x, weight, bias, activation)
