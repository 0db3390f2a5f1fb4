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
        pairs = list(zip(params, grads, strict=True))
        seen = [pair for pair in pairs if "momentum_buffer" in self.state.get(pair[0], {})]
        new = [pair for pair in pairs if "momentum_buffer" not in self.state.get(pair[0], {})]
        for p, _ in new:
            self.state.setdefault(p, {})["momentum_buffer"] = Tensor(np.zeros_like(p.data))
        # A parameter's first step starts its buffer with the gradient itself, undampened.
        for chosen, first in ((seen, False), (new, True)):
            if chosen:
                buffers = [self.state[p]["momentum_buffer"].data for p, _ in chosen]
                arrays = [p.data for p, _ in chosen]
                ops.sgd_step(arrays, [g for _, g in chosen], buffers, **options, first_step=first)
