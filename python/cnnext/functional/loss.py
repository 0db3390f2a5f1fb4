"""Losses."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import ops
from ..autocast_mode import mode as autocast
from ..autocast_mode import raised
from ..autograd import vjp_through
from ..devices import asarray_like
from ..dtypes import is_floating
from ..elementary import gather, where
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_raw, as_tensor, records
from .activation import log_softmax

_REDUCTIONS = ("none", "mean", "sum")


def reduction_name(reduction: Any, size_average: Any, reduce: Any) -> str:
    """torch's two deprecated flags, then the name."""
    if size_average is not None or reduce is not None:
        average, reduced = size_average in (None, True), reduce in (None, True)
        return "none" if not reduced else "mean" if average else "sum"
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} must be one of {', '.join(_REDUCTIONS)}")
    return reduction


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


# ---- class labels ----


def _picked(log_p: Tensor, target: Tensor, weight: Any, ignore_index: int) -> tuple[Tensor, Any]:
    """-weight * log_p at the target (0 where ignored), and the weights that a mean divides by."""
    dim = 0 if log_p.ndim == 1 else 1
    valid = target.data != ignore_index
    label = np.where(valid, target.data, 0).astype(np.int64)
    dtype = log_p.data.dtype
    scale = valid.astype(dtype) if weight is None else as_tensor(weight).data[label].astype(dtype) * valid
    chosen = gather(log_p, np.expand_dims(label, dim), dim=dim).squeeze(dim)
    return where(valid, -chosen, asarray_like(0, log_p.data, dtype)) * scale, scale


def _check_labels(x: Tensor, target: Tensor, weight: Any, ignore_index: int) -> None:
    if x.ndim == 0 or target.shape != (x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()):
        raise ValueError(
            f"target has shape {list(target.shape)}, which does not fit an input of shape {list(x.shape)}"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"target must hold integer class indices, it is {target.dtype}")
    classes = x.shape[0 if x.ndim == 1 else 1]
    if weight is not None and as_tensor(weight).shape != (classes,):
        raise ValueError(
            f"weight has shape {list(as_tensor(weight).shape)}, expected [{classes}], one for each class"
        )
    wrong = (target.data != ignore_index) & ((target.data < 0) | (target.data >= classes))
    if wrong.any():
        raise ValueError(f"target holds class {target.data[wrong].flat[0]}, valid are 0 to {classes - 1}")


def nll_loss(
    x: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The negative log likelihood (torch.nn.functional.nll_loss).

    x: (N, C, ...) log-probabilities; target: (N, ...) of any integer dtype.
    """
    x, target = raised(as_tensor(x)), as_tensor(target)
    reduction = reduction_name(reduction, size_average, reduce)
    _check_labels(x, target, weight, ignore_index)
    losses, scale = _picked(x, target, weight, ignore_index)
    return losses if reduction == "none" else losses.sum() / (scale.sum() if reduction == "mean" else 1.0)


def _composed_cross_entropy(
    x: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """cross_entropy in elementary primitives: for derivatives of its gradient, and of targets."""
    dim = 0 if x.ndim == 1 else 1
    classes = x.shape[dim]
    log_p = log_softmax(x, dim)
    class_weight = None
    if weight is not None:
        class_weight = as_tensor(weight).reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    weighted = log_p if class_weight is None else log_p * class_weight
    if is_floating(target.data.dtype):
        soft = target * (1 - label_smoothing) + label_smoothing / classes
        losses = -(weighted * soft).sum(dim)
        return (
            losses
            if reduction == "none"
            else losses.sum() / (max(losses.numel(), 1) if reduction == "mean" else 1.0)
        )
    losses, scale = _picked(log_p, target, weight, ignore_index)
    if label_smoothing:
        smooth = where(target.data != ignore_index, -weighted.sum(dim), asarray_like(0, x.data, x.data.dtype))
        losses = losses * (1 - label_smoothing) + smooth * (label_smoothing / classes)
    return losses if reduction == "none" else losses.sum() / (scale.sum() if reduction == "mean" else 1.0)


@primitive
def _cross_entropy(x: Any, target: Any, weight: Any, *, options: dict) -> Any:
    return ops.cross_entropy(x, target, weight, **options)


@primitive
def _cross_entropy_backward(grad_loss: Any, x: Any, target: Any, weight: Any, *, options: dict) -> Any:
    return ops.cross_entropy_backward(grad_loss, x, target, weight, **options)


def _cross_entropy_backward_rule(
    g: Any, grad_loss: Any, x: Any, target: Any, weight: Any, options: dict, wanted: Any
) -> list:
    def gradient(grad_loss: Tensor, x: Tensor) -> Tensor:
        return vjp_through(
            lambda x: _composed_cross_entropy(x, as_tensor(target), weight, **options),
            (x,),
            (grad_loss,),
            (True,),
        )[0]

    return vjp_through(gradient, (grad_loss, x), (g,), wanted[:2])


defvjp(
    _cross_entropy,
    lambda g, x, target, weight, options: _cross_entropy_backward(g, x, target, weight, options=options),
)
defvjp(_cross_entropy_backward, joint=_cross_entropy_backward_rule)


def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Differentiable cnnext.ops.cross_entropy (torch.nn.functional.cross_entropy) of logits x (N, C, ...).

    target: class indices (N, ...) of any integer dtype, or probabilities of x's shape and dtype.
    """
    x, target = as_tensor(x), as_tensor(target)
    if autocast.dtype is not None:
        x, target = raised(x), raised(target)
    options = {
        "ignore_index": ignore_index,
        "reduction": reduction_name(reduction, size_average, reduce),
        "label_smoothing": label_smoothing,
    }
    if records(target):
        ops.cross_entropy(x.data, target.data, as_raw(weight), **options)  # judges the arguments
        return _composed_cross_entropy(x, target, weight, **options)
    return _cross_entropy(x, target, weight, options=options)


def mse_loss(
    x: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """The squared difference (torch.nn.functional.mse_loss)."""
    x, target = raised(as_tensor(x)), raised(as_tensor(target))
    if x.shape != target.shape:
        warnings.warn(
            f"mse_loss: input {list(x.shape)} and target {list(target.shape)} differ and are broadcast",
            stacklevel=2,
        )
    return _reduced((x - target) ** 2, reduction_name(reduction, size_average, reduce))
