"""Learning rate schedules, in closed form, under torch.optim.lr_scheduler's names."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from .lr_base import LRScheduler, check_finite, check_numbers, for_each_group
from .lr_composite import ReduceLROnPlateau, SequentialLR
from .optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


def _check_count(**values: int) -> None:
    check_numbers("at least 1", lambda value: value >= 1, **values)


class LambdaLR(LRScheduler):
    """The initial rate times lr_lambda(epoch), one function or one for each group."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = for_each_group("lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * fn(self.last_epoch) for lr, fn in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """Times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        _check_count(step_size=step_size)
        check_finite(gamma=gamma)
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
        check_finite(gamma=gamma)
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * self.gamma ** bisect_right(self.milestones, self.last_epoch) for lr in self.base_lrs]


class ConstantLR(LRScheduler):
    """factor times the initial rate for total_iters steps, then the initial rate."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"factor={factor} must lie between 0 and 1")
        check_numbers("0 or more", lambda value: value >= 0, total_iters=total_iters)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        factor = 1.0 if self.last_epoch >= self.total_iters else self.factor
        return [lr * factor for lr in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Times gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        check_finite(gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        return [lr * self.gamma**self.last_epoch for lr in self.base_lrs]


class PolynomialLR(LRScheduler):
    """Down to 0 in total_iters steps, by a power of what is left of them."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        _check_count(total_iters=total_iters)
        check_numbers("0 or more", lambda value: value >= 0, power=power)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        left = 1 - min(self.last_epoch, self.total_iters) / self.total_iters
        return [lr * left**self.power for lr in self.base_lrs]


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
        _check_count(total_iters=total_iters)
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
        _check_count(T_max=T_max)
        check_finite(eta_min=eta_min)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """At last_epoch."""
        wave = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (lr - self.eta_min) * wave for lr in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """CosineAnnealingLR over T_0 steps, then anew over T_mult times as many, and so on: SGDR.

    step(epoch) takes fractions: epoch + batch / batches.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be an int of at least 1")
        check_finite(eta_min=eta_min)
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Count one more epoch, or go to a given one, and set the learning rates."""
        if epoch is not None and epoch < 0:
            raise ValueError(f"epoch={epoch} must not be negative")
        if epoch is None:
            epoch, self.T_cur = self.last_epoch + 1, self.T_cur + 1
        else:
            self.T_cur, self.T_i = epoch, self.T_0
        while self.T_cur >= self.T_i:
            self.T_cur, self.T_i = self.T_cur - self.T_i, self.T_i * self.T_mult
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _undo(self) -> None:
        super()._undo()
        self.T_cur -= 1

    def get_lr(self) -> list[float]:
        """At T_cur of T_i."""
        wave = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
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
        _check_count(total_steps=total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start={pct_start} must lie between 0 and 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy={anneal_strategy!r} must be 'cos' or 'linear'")
        groups = optimizer.param_groups
        peaks = for_each_group("max_lr", max_lr, optimizer)
        check_finite(base_momentum=base_momentum, max_momentum=max_momentum)
        rates = {f"max_lr[{i}]": peak for i, peak in enumerate(peaks)}
        factors = {"div_factor": div_factor, "final_div_factor": final_div_factor}
        check_numbers("a finite number above 0", lambda value: value > 0, **rates, **factors)
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
                group["lr"] = group["initial_lr"] = rates["initial"]
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
