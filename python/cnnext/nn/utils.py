"""Helpers for training loops, under torch.nn.utils' names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tape import Variable
from ..tensor import Tensor


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of all elements of the tensors together (torch.nn.utils.get_total_norm).

    norm_type: 2, any other number p, or infinity: the p-th root of the sum of |x| ** p, or the largest |x|.
    error_if_nonfinite: RuntimeError for one that is infinite or NaN. foreach changes nothing.
    """
    arrays = [t.data for t in _as_list(tensors)]
    norm_type = float(norm_type)
    if not norm_type > 0:
        raise ValueError(f"norm_type={norm_type} must be positive")
    norms = [_norm(array, norm_type) for array in arrays]  # on a device all are queued before one is awaited
    total = _norm(np.array([float(n) for n in norms], np.float64), norm_type) if norms else 0.0
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the total norm of order {norm_type} is {total}; the gradients cannot be clipped")
    return Tensor(np.asarray(total, arrays[0].dtype if arrays else np.float32))


def _norm(array: Any, norm_type: float) -> Any:
    if not array.size:
        return 0.0
    array = array.astype(np.float32) if array.dtype.itemsize == 2 else array
    if norm_type == 2:
        return np.sqrt(np.vdot(array, array))
    size = np.absolute(array)
    return size.max() if norm_type == math.inf else (size**norm_type).sum() ** (1 / norm_type)


def clip_grads_with_norm_(
    parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None
) -> None:
    """Scale all gradients by max_norm / total_norm where that is below 1 (torch.nn.utils)."""
    scale = float(max_norm) / (float(total_norm) + 1e-6)
    if scale >= 1:
        return
    for p in _as_list(parameters):
        if p.grad is not None:
            p.grad.detach().mul_(scale)


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients so that their joint norm is at most max_norm; returns the norm before.

    norm_type, error_if_nonfinite: as get_total_norm. A norm that is NaN makes all gradients NaN, as in torch.
    """
    parameters = _as_list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every gradient element to [-clip_value, clip_value]."""
    for p in _as_list(parameters):
        if p.grad is not None:
            p.grad.detach().clamp_(-clip_value, clip_value)


def _as_list(parameters: Any) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Variable) else list(parameters)
