"""Schedules that follow others, or what comes of training."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from .lr_base import LRScheduler, check_finite, check_numbers, for_each_group
from .optimizer import Optimizer


class SequentialLR(LRScheduler):
    """One schedule after the other, the next at each milestone: a warm-up and what follows it.

    SequentialLR(optimizer, [LinearLR(optimizer, 0.1), CosineAnnealingLR(optimizer, 95)], milestones=[5]).
    All are made first, for this optimizer; each counts from its own beginning.
    """

    _not_saved = ("optimizer", "_schedulers")

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        schedulers, milestones = list(schedulers), list(milestones)
        if not schedulers:
            raise ValueError("schedulers is empty; there must be one at least")
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                raise TypeError(
                    f"schedulers[{i}] is {type(scheduler).__name__}; it must be a schedule without metrics"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"schedulers[{i}] is for another optimizer")
        if len(milestones) != len(schedulers) - 1 or milestones != sorted(milestones):
            raise ValueError(
                f"milestones={milestones} must be {len(schedulers) - 1} numbers in order for "
                f"{len(schedulers)} schedulers"
            )
        self.optimizer = optimizer
        self._schedulers, self._milestones = schedulers, milestones
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo_parts()
        schedulers[bisect_right(milestones, 0)].step()
        self._note()

    def _undo_parts(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()

    def _undo(self) -> None:
        super()._undo()
        self._undo_parts()

    def step(self, epoch: float | None = None) -> None:
        """Count one more epoch (or batch), and let the schedule whose turn it is set the learning rates.

        epoch: 0 begins anew; it goes to no other.
        """
        if epoch not in (None, 0):
            raise NotImplementedError(f"SequentialLR goes on from step to step, not to epoch={epoch}")
        self.last_epoch = self.last_epoch + 1 if epoch is None else 0
        turn = bisect_right(self._milestones, self.last_epoch)
        begins = epoch == 0 or (turn > 0 and self._milestones[turn - 1] == self.last_epoch)
        self._schedulers[turn].step(0 if begins else None)
        self._note()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, with the states of the schedules."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict."""
        states = state_dict["_schedulers"]
        if len(states) != len(self._schedulers):
            raise ValueError(f"the state is of {len(states)} schedulers, here are {len(self._schedulers)}")
        super().load_state_dict({name: v for name, v in state_dict.items() if name != "_schedulers"})
        for scheduler, state in zip(self._schedulers, states, strict=True):
            scheduler.load_state_dict(state)


class ReduceLROnPlateau(LRScheduler):
    """Times factor where a metric has not become better for more than patience epochs.

    mode: "min", less is better, or "max". threshold: by how much, as a part of the best so far
    (threshold_mode "rel") or as it is ("abs"). cooldown: epochs after a reduction that do not count. min_lr:
    one, or one for each group; eps: a smaller change is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        check_numbers("below 1, and not below 0", lambda value: 0 <= value < 1, factor=factor)
        check_numbers(
            "a finite number of 0 or more", lambda value: value >= 0,
            patience=patience, threshold=threshold, cooldown=cooldown, eps=eps,
        )  # fmt: skip
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} must be 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode={threshold_mode!r} must be 'rel' or 'abs'")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.min_lrs = for_each_group("min_lr", min_lr, optimizer)
        check_finite(**{f"min_lr[{i}]": least for i, least in enumerate(self.min_lrs)})
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0
        self._note()

    @property
    def in_cooldown(self) -> bool:
        """Do epochs not count, after a reduction?"""
        return self.cooldown_counter > 0

    def _is_better(self, metric: float) -> bool:
        less = self.mode == "min"
        if self.threshold_mode == "rel":
            limit = self.best * (1 - self.threshold if less else 1 + self.threshold)
        else:
            limit = self.best + (-self.threshold if less else self.threshold)
        return metric < limit if less else metric > limit

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Count one more epoch, with its metric, a number; reduce the learning rates where it is time."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._note()
