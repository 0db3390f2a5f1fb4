"""Batch normalisation, layer normalisation and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops, random
from ..autocast_mode import raised
from ..autograd import vjp_through
from ..devices import copy_of
from ..dtypes import DEFAULT_DTYPE, is_half
from ..grad_mode import mode
from ..tape import defvjp, primitive, wrap
from ..tensor import Tensor
from ._common import as_raw, as_tensor, note_update, records, through_float32
from .activation import activation_backward

# As in torch, images of 16 bits may stand beside float32 statistics and parameters. On the host they are
# float32 for the call, and the result has their dtype; CUDA's kernels read both.


def _is_mixed(x: Any, *vectors: Any) -> bool:
    if not isinstance(x, np.ndarray) or not is_half(x.dtype):
        return False
    return any(v is not None and v.dtype == DEFAULT_DTYPE for v in vectors)


def _forward(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float,
    activation: str | None,
) -> tuple:  # fmt: skip
    options = (training, momentum, eps)
    if x.dtype.itemsize != 2 or not _is_mixed(x, mean, var, weight, bias):
        return ops.batch_norm_forward(x, mean, var, weight, bias, *options, activation=activation)
    wide = x.astype(DEFAULT_DTYPE)
    y, *saved = ops.batch_norm_forward(wide, mean, var, weight, bias, *options, activation=activation)
    return (y.astype(x.dtype), *saved)


def _backward(
    grad_y: Any, x: Any, weight: Any, mean: Any, invstd: Any, training: bool, needs: Any, y: Any = None,
    activation: str | None = None,
) -> tuple:  # fmt: skip
    options = {"training": training, "needs": needs, "activation": activation}
    if x.dtype.itemsize != 2 or not _is_mixed(x, weight, mean, invstd):
        return ops.batch_norm_backward(grad_y, x, weight, mean, invstd, y=y, **options)
    grad_y, wide, y = (a if a is None else a.astype(DEFAULT_DTYPE) for a in (grad_y, x, y))
    grad_x, *grads = ops.batch_norm_backward(grad_y, wide, weight, mean, invstd, y=y, **options)
    return (grad_x if grad_x is None else grad_x.astype(x.dtype), *grads)


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
    return _forward(x, running_mean, running_var, weight, bias, training, momentum, eps, None)


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
    return _forward(x, running_mean, running_var, weight, bias, training, momentum, eps, activation)


@primitive
def _batch_norm_backward(
    grad_y: Any, x: Any, weight: Any, mean: Any, invstd: Any, *, training: bool, eps: float
) -> Any:
    return _backward(grad_y, x, weight, mean, invstd, training, (True, True, True))


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
    grads = _backward(*arrays, training, wanted[:3], as_raw(out), activation)
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

    The running statistics are updated in place when training. activation: "relu" or "relu6" of the result, in
    the same pass. x of float16 or bfloat16 beside float32 vectors is normalised in float32 and rounded to its
    dtype once.
    """
    x = as_tensor(x)
    if not training and not activation and not records(x, weight, bias):
        arrays = [as_raw(a) for a in (x, running_mean, running_var, weight, bias)]
        if not _is_mixed(*arrays):
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

    normalized_shape: the sizes of those dimensions; weight and bias have that shape. Within autocast in
    float32.
    """
    x = raised(as_tensor(x))
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
        x = copy_of(x, "C")
    return through_float32(ops.dropout, x, p, True, seed=seed, offset=offset)


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
