"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Tensor
from .optimizer import Optimizer, check_range


class Adam(Optimizer):
    """Kingma and Ba, 2015 (torch.optim.Adam); weight_decay is added to the gradient."""

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_range(name, group[name])
        if len(group["betas"]) != 2:
            raise ValueError(f"betas={group['betas']!r} must be two numbers")
        for i, beta in enumerate(group["betas"]):
            check_range(f"betas[{i}]", beta, 0.0, 1.0)

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Any]) -> None:
        by_step: dict[int, list[tuple[Tensor, Any]]] = {}
        for p, grad in zip(params, grads, strict=True):
            state = self._state_of(p, group["amsgrad"])
            state["step"] += 1
            by_step.setdefault(state["step"], []).append((p, grad))
        for step, pairs in by_step.items():
            states = [self.state[p] for p, _ in pairs]
            ops.adam_step(
                [p.data for p, _ in pairs],
                [grad for _, grad in pairs],
                [s["exp_avg"].data for s in states],
                [s["exp_avg_sq"].data for s in states],
                [s["max_exp_avg_sq"].data for s in states] if group["amsgrad"] else None,
                step=step,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                decoupled=self._decoupled,
                maximize=group["maximize"],
            )

    def _state_of(self, p: Tensor, amsgrad: bool) -> dict[str, Any]:
        state = self.state.setdefault(p, {"step": 0})
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if amsgrad else 2]:
            if name not in state:
                state[name] = Tensor(np.zeros_like(p.data))
        return state


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: Loshchilov and Hutter, 2019 (torch.optim.AdamW)."""

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
