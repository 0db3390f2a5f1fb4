"""What all learning rate schedules share."""

from __future__ import annotations

import math
import numbers
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
                group.setdefault("initial_lr", group["lr"])  # several schedules begin from one rate
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

    def step(self, epoch: float | None = None) -> None:
        """Count one more epoch (or batch), or go to a given one, and set the learning rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set(self.get_lr())

    def _set(self, rates: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._note()

    def _note(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _undo(self) -> None:
        """Forget the step that making it took: another schedule comes first."""
        self.last_epoch -= 1

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions."""
        return {name: value for name, value in self.__dict__.items() if name not in self._not_saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict."""
        self.__dict__.update(state_dict)


def check_numbers(rule: str, holds: Callable[[float], bool], **values: Any) -> None:
    """ValueError that names the first of the values that is no finite number of which `holds`."""
    for name, value in values.items():
        plain = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (plain and math.isfinite(value) and holds(value)):
            raise ValueError(f"{name}={value} must be {rule}")


def check_finite(**values: Any) -> None:
    """ValueError that names the first of the values that is no finite number."""
    check_numbers("a finite number", lambda value: True, **values)


def for_each_group(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """One value for all parameter groups, or a list of one for each."""
    groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} values for {groups} parameter groups")
    return values
