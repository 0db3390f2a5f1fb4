"""Helpers for training loops, under torch.nn.utils' names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tape import Variable
from ..tensor import Tensor


def clip_grad_norm_(parameters: Any, max_norm: float) -> Tensor:
    """Scale all gradients so that their joint Euclidean norm is at most max_norm; returns the norm before."""
    grads = [p.grad for p in _as_list(parameters) if p.grad is not None]
    squares = [np.vdot(g.data, g.data) for g in grads]  # all queued before the first is waited for
    total = math.sqrt(sum(map(float, squares)))
    scale = max_norm / (total + 1e-6)
    if scale < 1:
        for grad in grads:
            grad.detach().mul_(scale)
    return Tensor(np.float32(total))


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every gradient element to [-clip_value, clip_value]."""
    for p in _as_list(parameters):
        if p.grad is not None:
            p.grad.detach().clamp_(-clip_value, clip_value)


def _as_list(parameters: Any) -> Iterable[Tensor]:
    return [parameters] if isinstance(parameters, Variable) else list(parameters)
