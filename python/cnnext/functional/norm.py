"""Batch normalisation, layer normalisation and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops, random
from ..autograd import vjp_through
from ..grad_mode import mode
from ..tape import defvjp, primitive, wrap
from ..tensor import Tensor
from ._common import as_raw, as_tensor, note_update, records
from .activation import activation_backward


@primitive(nondiff=(1, 2))
def _batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    return ops.batch_norm_forward(x, running_mean, running_var, weight, bias, training, momentum, eps)


@primitive(nondiff=(1, 2))
def _batch_norm_activation(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    *,
    training: bool,
    momentum: float,
    eps: float,
    activation: str,
) -> Any:
    statistics = (running_mean, running_var)
    return ops.batch_norm_forward(
        x, *statistics, weight, bias, training, momentum, eps, activation=activation
    )


@primitive
def _batch_norm_backward(
    grad_y: Any, x: Any, weight: Any, mean: Any, invstd: Any, *, training: bool, eps: float
) -> Any:
    return ops.batch_norm_backward(
        grad_y, x, weight, mean, invstd, training=training, needs=(True, True, True)
    )


def _batch_norm_rule(
    g: Any, x: Any, weight: Any, out1: Any, out2: Any, training: bool, eps: float, wanted: Any
) -> tuple:
    grads = _batch_norm_backward(g, x, weight, out1, out2, training=training, eps=eps)
    return tuple(grad if w else None for grad, w in zip(grads, wanted[:3], strict=True))


def _batch_norm_activation_rule(
    g: Any, out: Any, x: Any, weight: Any, out1: Any, out2: Any, training: bool, eps: float, activation: str,
    wanted: Any,
) -> tuple:  # fmt: skip
    if mode.enabled:  # step by step, so that it can be differentiated again
        g = activation_backward(g, out, kind=activation, negative_slope=0.0)
        return _batch_norm_rule(g, x, weight, out1, out2, training, eps, wanted)
    arrays = [as_raw(a) for a in (g, x, weight, out1, out2)]
    passed = {"y": as_raw(out), "activation": activation}
    grads = ops.batch_norm_backward(*arrays, training=training, needs=wanted[:3], **passed)
    return tuple(None if grad is None else wrap(grad) for grad in grads)


def _batch_norm_backward_rule(
    gs: Any, grad_y: Any, x: Any, weight: Any, mean: Any, invstd: Any, training: bool, eps: float, wanted: Any
) -> list:
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = [1, -1] + [1] * (x.ndim - 2)

    def gradients(grad_y: Tensor, x: Tensor, weight: Any) -> tuple:
        """The three gradients as a composition, with mean and invstd as functions of x where they are."""
        dtypes = [t.data.dtype for t in (x, x if weight is None else weight)]
        # Beside 16-bit images the statistics are float32, and so is what is computed of both.
        grad_y, x = grad_y.to(mean.data.dtype), x.to(mean.data.dtype)
        m, s = mean.reshape(shape), invstd.reshape(shape)
        if training:
            m = x.mean(axes, keepdim=True)
            s = 1.0 / (((x - m) ** 2).mean(axes, keepdim=True) + eps).sqrt()
        normal = (x - m) * s
        grad_weight, grad_bias = (grad_y * normal).sum(axes), grad_y.sum(axes)
        scale = s if weight is None else s * weight.reshape(shape)
        grad_x = grad_y * scale
        if training:
            mean_grad = grad_y.mean(axes, keepdim=True)
            grad_x = scale * (grad_y - mean_grad - normal * (grad_y * normal).mean(axes, keepdim=True))
        return grad_x.to(dtypes[0]), grad_weight.to(dtypes[1]), grad_bias.to(dtypes[1])

    return vjp_through(gradients, (grad_y, x, weight), gs, wanted[:3])


defvjp(_batch_norm, joint=_batch_norm_rule)
defvjp(_batch_norm_activation, joint=_batch_norm_activation_rule)
defvjp(_batch_norm_backward, joint=_batch_norm_backward_rule)


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
) -> Tensor:
    """Differentiable cnnext.ops.batch_norm (torch.nn.functional.batch_norm) over axis 1.

    The running statistics are updated in place when training. activation: "relu" or "relu6" of
    the result, in the same pass.
    """
    x = as_tensor(x)
    if not training and not activation and not records(x, weight, bias):
        arrays = [as_raw(a) for a in (x, running_mean, running_var, weight, bias)]
        return as_tensor(ops.batch_norm(*arrays, False, momentum, eps))
    arrays = (x, weight, bias, running_mean, running_var)
    norm = {"training": training, "momentum": momentum, "eps": eps}
    if activation:
        y = _batch_norm_activation(*arrays, **norm, activation=activation)[0]
    else:
        y = _batch_norm(*arrays, **norm)[0]
    if training:
        note_update(running_mean, running_var)
    return y


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions (torch.nn.functional.layer_norm).

    normalized_shape: the sizes of those dimensions; weight and bias have that shape.
    """
    x = as_tensor(x)
    shape = (normalized_shape,) if np.ndim(normalized_shape) == 0 else tuple(normalized_shape)
    if not shape or x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ValueError(
            f"layer_norm: normalized_shape={shape} must be the last sizes of x, of shape {list(x.shape)}"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != shape:
            raise ValueError(
                f"layer_norm: {name} has shape {list(value.shape)}, not normalized_shape={shape}"
            )
    features = math.prod(shape)
    if features == 1 or x.numel() == 0:
        y = x - x  # one value is its own mean; batch norm refuses it
    else:
        # The batch norm of one image whose channels are the rows.
        rows = x.reshape(1, x.numel() // features, features)
        y = _batch_norm(rows, None, None, None, None, training=True, momentum=0.0, eps=eps)[0].reshape(
            x.shape
        )
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@primitive
def _dropout(x: Any, *, p: float, seed: int, offset: int, channels_last: bool) -> Any:
    # The mask follows memory order: a gradient must lie in memory as the input of the forward pass did.
    if channels_last:
        x = ops.contiguous(x, channels_last=True)
    elif not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    return ops.dropout(x, p, True, seed=seed, offset=offset)


defvjp(
    _dropout,
    lambda g, p, seed, offset, channels_last: _dropout(
        g, p=p, seed=seed, offset=offset, channels_last=channels_last
    ),
)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeros with probability p, the rest times 1 / (1 - p) (torch.nn.functional.dropout).

    Drawn from the counter-based stream of cnnext.manual_seed. The identity where training is False.
    """
    x = as_tensor(x)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise ValueError(f"dropout: p={p!r} must be a probability, from 0 to 1")
    if not training or p == 0:
        return x
    seed, offset = random.dropout_state(x.numel())
    channels_last = not x.is_contiguous() and x.is_contiguous("channels_last")
    options = {"p": float(p), "seed": seed, "offset": offset, "channels_last": channels_last}
    return x._assign(_dropout, **options) if inplace else _dropout(x, **options)
