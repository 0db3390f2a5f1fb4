"""Batch norm for torch, with ReLU or ReLU6 behind it if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ._activation import gradient as activation_gradient
from ._layout import empty, is_channels_last
from ._op import Op, is_half, raw


def _wide(t: Tensor | None) -> Tensor | None:
    """What the kernels read where x has 16 bits: they know float32 and float64."""
    return None if t is None else raw(t).float()


# ---- forward ----


def _in_place(
    x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
    eps: float, activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(y, mean, 1/sqrt(var + eps)); training updates the running statistics."""
    if is_half(x):
        wide = [_wide(t) for t in (running_mean, running_var, weight, bias)]
        y, mean, invstd = _C.batch_norm(_wide(x), *wide, training, momentum, eps, True, None, activation)
        y = y.to(x.dtype)
        for kept, new in zip((running_mean, running_var), wide, strict=False):
            if training and kept is not None and new is not kept:
                kept.copy_(new)
    else:
        statistics = raw(running_mean), raw(running_var)
        y, mean, invstd = _C.batch_norm(
            raw(x), *statistics, raw(weight), raw(bias), training, momentum, eps, True, None, activation
        )
    if training and running_mean is not None:
        for statistics in (running_mean, running_var):
            torch.autograd.graph.increment_version(statistics)
    return y, mean, invstd


def _evaluated(
    x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
    eps: float, activation: str | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The same where nothing is recorded: nothing is saved where nobody asks for the statistics."""
    if training or is_half(x):
        return _in_place(x, weight, bias, running_mean, running_var, training, momentum, eps, activation)
    vectors = [raw(t) for t in (running_mean, running_var, weight, bias)]
    return (_C.batch_norm(raw(x), *vectors, False, momentum, eps, False, None, activation),)


def _functional(
    x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
    eps: float, activation: str | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    statistics = [running_mean, running_var]
    updates = training and running_mean is not None
    if updates:
        statistics = [raw(t).clone() for t in statistics]
    y, mean, invstd = _in_place(x, weight, bias, *statistics, training, momentum, eps, activation)
    new = statistics if updates else [mean.new_empty(0), mean.new_empty(0)]
    # A running mean in evaluation may come back as itself, which an operation may not do.
    return (y, mean if training else mean.clone(), invstd, *new)


def _fake(
    x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
    eps: float, activation: str | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    torch._check(x.ndim >= 2, lambda: f"x has shape {x.shape}; it must be (N, C, ...)")
    dtype = torch.float32 if is_half(x) else x.dtype
    channels = (x.shape[1],)
    updates = training and running_mean is not None
    new = [
        empty(t, channels) if updates else x.new_empty(0, dtype=dtype) for t in (running_mean, running_var)
    ]
    return (_like(x), empty(x, channels, dtype=dtype), empty(x, channels, dtype=dtype), *new)


def _like(x: Tensor) -> Tensor:
    """A result of x's shape (N, C, ...)."""
    if x.ndim == 3:  # as an image with rows of length 1
        view = x.unsqueeze(2)
        last = x.shape[2] != 1 and is_channels_last(view)
        return empty(x, (x.shape[0], x.shape[2], x.shape[1])).transpose(1, 2) if last else empty(x, x.shape)
    return empty(x, x.shape, is_channels_last(x))


def _setup(ctx: Any, inputs: Sequence[Any], output: Sequence[Any]) -> None:
    x, weight, _, _, _, training, _, eps, activation = inputs
    y, mean, invstd, *rest = output
    ctx.save_for_backward(x, weight, mean, invstd, y if activation else None)
    ctx.how = training, eps, activation
    ctx.mark_non_differentiable(mean, invstd, *rest)
    ctx.set_materialize_grads(False)


def _rule(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 9
    x, weight, mean, invstd, y = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:3]]
    grads = batch_norm_backward(g, x, weight, mean, invstd, y, *ctx.how, needs)
    return (*[grad if need else None for grad, need in zip(grads, needs, strict=True)], *[None] * 6)


#: weight and bias come before the statistics, as in aten. The op gives new statistics; the functions update.
batch_norm_op = Op(
    "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
    "bool training, float momentum, float eps, str? activation) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _functional,
    _fake,
    _setup,
    _rule,
    bare=_in_place,
    light=_evaluated,
)

# ---- backward ----


def _backward(
    grad_y: Tensor, x: Tensor, weight: Any, mean: Tensor, invstd: Tensor, y: Any, training: bool, eps: float,
    activation: str | None, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    tensors = [grad_y, x, weight, mean, invstd, y]
    tensors = [_wide(t) if is_half(x) else raw(t) for t in tensors]
    grads = _C.batch_norm_backward(*tensors[:5], training, *needs, tensors[5], activation)
    parameter = x.dtype if weight is None else weight.dtype
    kinds = (x.dtype, parameter, parameter)
    return tuple(
        mean.new_empty(0, dtype=dtype) if grad is None else grad.to(dtype)
        for grad, dtype in zip(grads, kinds, strict=True)
    )


def _backward_fake(
    grad_y: Tensor, x: Tensor, weight: Any, mean: Tensor, invstd: Tensor, y: Any, training: bool, eps: float,
    activation: str | None, needs: Sequence[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    parameter = x.dtype if weight is None else weight.dtype
    vectors = [empty(x, (x.shape[1] if need else 0,), dtype=parameter) for need in needs[1:]]
    return (_like(x) if needs[0] else x.new_empty(0), *vectors)


def _backward_setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    *tensors, training, eps, activation, _ = inputs
    ctx.how = training, eps, activation
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_rule(
    ctx: Any, of_x: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None
) -> tuple[Any, ...]:
    """The gradients of batch norm's gradients, of torch's operations, so that they have gradients, too.

    With n = (x - m) s and P(v) = v - mean(v) - n mean(v n): grad_x = s w P(g), grad_weight = sum(g n),
    grad_bias = sum(g); P is its own adjoint, and the derivative of n is s P. In evaluation m and s are
    constants.
    """
    grad_y, x, weight, mean, invstd, y = ctx.saved_tensors
    training, eps, activation = ctx.how
    axes = [i for i in range(x.ndim) if i != 1]
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    of_x, of_weight, of_bias = (
        t if t is not None and t.numel() else None for t in (of_x, of_weight, of_bias)
    )

    def average(v: Tensor) -> Tensor:
        return v.mean(axes, keepdim=True)

    if training and torch.is_grad_enabled():
        m = average(x)
        s = (average((x - m) ** 2) + eps).rsqrt()
    else:
        m, s = mean.reshape(shape), invstd.reshape(shape)
    n = (x - m) * s
    w = s if weight is None else s * weight.reshape(shape)
    g = grad_y if y is None else activation_gradient(grad_y, activation, y, None)

    def project(v: Tensor) -> Tensor:
        return v - average(v) - n * average(v * n) if training else v

    zero = torch.zeros_like(x)
    for_g, for_x, for_n, for_weight = zero, zero, zero, None
    if of_x is not None:
        projected = project(of_x)
        for_g = for_g + w * projected
        if weight is not None:
            for_weight = (s * projected * g).sum(axes)
        if training:
            for_n = for_n - w * (of_x * average(g * n) + g * average(of_x * n))
            for_x = for_x - s * w * n * average(of_x * project(g))
    if of_weight is not None:
        for_g = for_g + of_weight.reshape(shape) * n
        for_n = for_n + of_weight.reshape(shape) * g
    if of_bias is not None:
        for_g = for_g + of_bias.reshape(shape)
    for_x = for_x + s * project(for_n)
    if y is not None:
        for_g = activation_gradient(for_g, activation, y, None)
    grads = [
        None if grad is None else grad.to(t.dtype)
        for grad, t in zip((for_g, for_x, for_weight), (grad_y, x, weight), strict=True)
    ]
    return (*grads, *[None] * 7)


batch_norm_backward = Op(
    "batch_norm_backward(Tensor grad_y, Tensor x, Tensor? weight, Tensor save_mean, Tensor save_invstd, "
    "Tensor? y, bool training, float eps, str? activation, bool[3] needs) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
    _backward_setup,
    _backward_rule,
)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
) -> Tensor:
    """Differentiable `cnnext.ops.batch_norm` (torch.nn.functional.batch_norm).

    activation: None, "relu" or "relu6", in the same pass. The running statistics are updated in place in
    training. x may be float16 or bfloat16 beside float32
    vectors, as under torch.autocast: it is computed in float32 and has x's dtype.
    `torch.ops.cnnext.batch_norm` gives (y, mean, 1/sqrt(var + eps), running_mean, running_var) and updates
    nothing.
    """
    y, *rest = batch_norm_op(x, weight, bias, running_mean, running_var, training, momentum, eps, activation)
    if len(rest) == 4 and training and running_mean is not None:
        with torch.no_grad():
            running_mean.copy_(rest[2])
            running_var.copy_(rest[3])
    return y
