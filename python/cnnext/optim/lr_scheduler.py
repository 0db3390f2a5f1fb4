"""Learning rate schedules, in closed form, under torch.optim.lr_scheduler's names."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """Sets the learning rate of every group from the number of step() calls so far."""

    _not_saved = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group["initial_lr"] = group["lr"]
            elif "initial_lr" not in group:
                raise ValueError(
                    f"last_epoch={last_epoch} resumes, but param_groups[{i}] has no 'initial_lr'"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self.step()

    def get_lr(self) -> list[float]:
        """The learning rate of each group at last_epoch."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The learning rates that were set last."""
        return list(self._last_lr)

    def step(self) -> None:
        """Count one more epoch (or batch) and set the learning rates."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions."""
        return {name: value for name, value in self.__dict__.items() if name not in self._not_saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The initial rate times lr_lambda(epoch), one function or one for each group."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"lr_lambda has {len(self.lr_lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * fn(self.last_epoch) for lr, fn in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """Times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if step_size < 1:
            raise ValueError(f"step_size={step_size} must be at least 1")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * self.gamma ** (self.last_epoch // self.step_size) for lr in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Times gamma at each of the milestones."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * self.gamma ** bisect_right(self.milestones, self.last_epoch) for lr in self.base_lrs]


class LinearLR(LRScheduler):
    """From start_factor to end_factor times the initial rate over total_iters steps: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor={start_factor} must be above 0 and at most 1")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor={end_factor} must lie between 0 and 1")
        if total_iters < 1:
            raise ValueError(f"total_iters={total_iters} must be at least 1")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        done = min(self.last_epoch, self.total_iters) / self.total_iters
        return [
            lr * (self.start_factor + (self.end_factor - self.start_factor) * done) for lr in self.base_lrs
        ]


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate to eta_min in T_max steps: Loshchilov and Hutter, 2017."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"T_max={T_max} must be at least 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        wave = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (lr - self.eta_min) * wave for lr in self.base_lrs]


class OneCycleLR(LRScheduler):
    """Up to max_lr, then down to almost nothing, once over total_steps batches: Smith and Topin, 2018.

    cycle_momentum moves momentum (Adam: beta1) the other way, between base_momentum and max_momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("give total_steps, or both epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps} must be at least 1")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start={pct_start} must lie between 0 and 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy={anneal_strategy!r} must be 'cos' or 'linear'")
        groups = optimizer.param_groups
        peaks = list(max_lr) if isinstance(max_lr, (list, tuple)) else [max_lr] * len(groups)
        if len(peaks) != len(groups):
            raise ValueError(f"max_lr has {len(peaks)} values for {len(groups)} parameter groups")
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError("cycle_momentum=True needs an optimizer with momentum or betas")
        self.total_steps, self.anneal_strategy, self.cycle_momentum = (
            total_steps,
            anneal_strategy,
            cycle_momentum,
        )
        up = float(pct_start * total_steps) - 1
        # Each phase: its last step, and the names of the values at its two ends.
        if three_phase:
            self._phases = [
                [up, "initial", "max"], [2 * up, "max", "initial"], [total_steps - 1, "initial", "min"],
            ]  # fmt: skip
        else:
            self._phases = [[up, "initial", "max"], [total_steps - 1, "max", "min"]]
        self._rates = [
            {"initial": m / div_factor, "max": m, "min": m / div_factor / final_div_factor} for m in peaks
        ]
        self._momenta = {"initial": max_momentum, "max": base_momentum, "min": max_momentum}
        if last_epoch == -1:
            for group, rates in zip(groups, self._rates, strict=True):
                group["lr"] = rates["initial"]
        super().__init__(optimizer, last_epoch)

    def _between(self, ends: dict[str, float]) -> float:
        start = 0.0
        for i, (end, a, b) in enumerate(self._phases):
            if self.last_epoch <= end or i == len(self._phases) - 1:
                part = (self.last_epoch - start) / (end - start) if end != start else 1.0
                if self.anneal_strategy == "linear":
                    return ends[a] + (ends[b] - ends[a]) * part
                return ends[b] + (ends[a] - ends[b]) / 2 * (1 + math.cos(math.pi * part))
            start = end
        raise AssertionError("the last phase takes every step")

    def get_lr(self) -> list[float]:
        """At last_epoch; the momentum is set on the way."""
        if self.last_epoch >= self.total_steps + 1:
            raise ValueError(
                f"step() was called {self.last_epoch} times, but the cycle has {self.total_steps} steps"
            )
        if self.cycle_momentum:
            momentum = self._between(self._momenta)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self._between(rates) for rates in self._rates]
