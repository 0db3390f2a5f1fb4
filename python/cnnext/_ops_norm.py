"""Batch normalisation, softmax and cross-entropy on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import _C
from ._arrays import Array, parse_needs, shape_of


def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias over axis 1: torch.nn.functional.batch_norm.

    x: (N, C, ...); the others: (C,). In training mean and (biased) variance are the batch's, and running_mean
    and running_var, where given, are updated in place: new = (1 - momentum)*old + momentum*batch's (unbiased
    variance). In evaluation both are required. dtypes: float32 or float64, and on CUDA float16 or bfloat16,
    beside which weight and bias, and each of the running statistics, may be float32. TypeError for others,
    ValueError for other shapes.
    """
    return _C.batch_norm(
        x, running_mean, running_var, weight, bias, training, momentum, eps, False, out, None
    )


def batch_norm_forward(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """batch_norm with what its backward needs: (y, mean, 1/sqrt(var + eps)); aten::native_batch_norm.

    mean and 1/sqrt(var + eps) have x's dtype, and float32 where that has 16 bits, as torch's on CUDA.
    activation: "relu" or "relu6" of y, in the same pass.
    """
    return _C.batch_norm(
        x, running_mean, running_var, weight, bias, training, momentum, eps, True, None, activation
    )


def batch_norm_backward(
    grad_y: Array,
    x: Array,
    weight: Array | None,
    save_mean: Array,
    save_invstd: Array,
    *,
    training: bool = True,
    needs: Sequence[bool] = (True, True, True),
    y: Array | None = None,
    activation: str | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of x, weight and bias, None where `needs` says so.

    y and activation: of a forward with an activation, its result, which says where the gradient passes.

    save_mean, save_invstd: as batch_norm_forward returned them. grad_weight and grad_bias have weight's
    dtype, and are there without a weight, too, in x's. torch: aten::native_batch_norm_backward.
    """
    return _C.batch_norm_backward(
        grad_y, x, weight, save_mean, save_invstd, training, *parse_needs(needs), y, activation
    )


def _implicit_dim(x: Array) -> int:
    return 0 if len(shape_of(x, "x")) in (0, 1, 3) else 1


def softmax(x: Array, dim: int | None = None, *, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) along dim: torch.nn.functional.softmax.

    dim None: 0 for 0, 1 and 3 axes, else 1, as torch chooses it.
    """
    return _C.softmax(x, _implicit_dim(x) if dim is None else dim, False, out)


def log_softmax(x: Array, dim: int | None = None, *, out: Array | None = None) -> Array:
    """log(softmax(x)) along dim: torch.nn.functional.log_softmax. dim None: as softmax."""
    return _C.softmax(x, _implicit_dim(x) if dim is None else dim, True, out)


def softmax_backward(grad_y: Array, y: Array, dim: int) -> Array:
    """The gradient of softmax's x; y is softmax's result."""
    return _C.softmax_backward(grad_y, y, dim, False, None)


def log_softmax_backward(grad_y: Array, y: Array, dim: int) -> Array:
    """The gradient of log_softmax's x; y is log_softmax's result."""
    return _C.softmax_backward(grad_y, y, dim, True, None)


def _as_labels(target: Array) -> Array:
    """uint32 and uint64 labels as int64, which the library takes; anything else as it is."""
    if isinstance(target, np.ndarray) and target.dtype in (np.uint32, np.uint64):
        return target.astype(np.int64)
    return target


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The cross-entropy of logits: torch.nn.functional.cross_entropy, with its positional order.

    x: (N, C), (N, C, d1, ...) or (C,). target: class numbers (N, d1, ...) of any integer dtype, or
    probabilities of x's shape and dtype. weight: (C,). reduction: "none" (the target's shape), "mean"
    (weighted), "sum". size_average and reduce: torch's old spelling of reduction; where given, they win.
    """
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            reduction = "none"
        else:
            reduction = "mean" if size_average is None or size_average else "sum"
    return _C.cross_entropy(x, _as_labels(target), weight, ignore_index, reduction, label_smoothing)


def cross_entropy_backward(
    grad_loss: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The gradient of cross_entropy's x. grad_loss: the loss's shape."""
    return _C.cross_entropy_backward(
        grad_loss, x, _as_labels(target), weight, ignore_index, reduction, label_smoothing
    )
