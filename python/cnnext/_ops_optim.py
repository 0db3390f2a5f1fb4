"""The optimisers' updates, in place on lists of arrays."""

from __future__ import annotations

from collections.abc import Sequence

from . import _C
from ._arrays import Array


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first_step: bool = False,
) -> None:
    """One step of torch.optim.SGD: params, and momentum_buffers where momentum is not 0, change in place.

    Three lists of arrays of pairwise equal shapes and dtypes. first_step: buffers are set to the gradient.
    """
    _C.sgd_step(
        params, grads, momentum_buffers, lr, momentum, dampening, weight_decay, nesterov, maximize, first_step
    )


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None = None,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
) -> None:
    """One step of torch.optim.Adam (AdamW with decoupled): all lists but grads change in place.

    step counts from 1. max_exp_avg_sqs: with amsgrad, else None.
    """
    _C.adam_step(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay,
        decoupled, maximize,
    )  # fmt: skip
