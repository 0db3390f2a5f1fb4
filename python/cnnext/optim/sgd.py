"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Tensor
from .optimizer import Optimizer, check_range


class SGD(Optimizer):
    """Gradient descent with momentum, Nesterov's too (torch.optim.SGD)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_range(name, group[name])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("nesterov=True needs a momentum above 0 and dampening=0")

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Any]) -> None:
        options = {name: value for name, value in group.items() if name in self.defaults}
        if not group["momentum"]:
            ops.sgd_step([p.data for p in params], grads, None, **options)
            return
        # A parameter's first step starts its buffer with the gradient itself, undampened.
        for first in (True, False):
            chosen = [
                (p, g)
                for p, g in zip(params, grads, strict=True)
                if ("momentum_buffer" not in self.state.get(p, {})) is first
            ]
            if chosen:
                self._momentum_step([p for p, _ in chosen], [g for _, g in chosen], options, first)
                if first and len(chosen) == len(params):
                    return

    def _momentum_step(
        self, params: list[Tensor], grads: list[Any], options: dict[str, Any], first: bool
    ) -> None:
        if first:
            for p in params:
                self.state.setdefault(p, {})["momentum_buffer"] = Tensor(np.zeros_like(p.data))
        buffers = [self.state[p]["momentum_buffer"].data for p in params]
        ops.sgd_step([p.data for p in params], grads, buffers, **options, first_step=first)
