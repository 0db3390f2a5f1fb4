"""The optimiser and learning-rate schedule that a configuration names, and their state as plain files."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import Tensor, nn, optim
from .config import TrainConfig

__all__ = ["load_optimizer", "make_optimizer", "make_scheduler", "optimizer_state"]


def make_optimizer(model: nn.Module, config: TrainConfig) -> optim.Optimizer:
    if config.optimizer == "adamw":
        return optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )


def make_scheduler(
    optimizer: optim.Optimizer, config: TrainConfig, steps: int
) -> optim.lr_scheduler.LRScheduler:
    """Stepped once a batch, `steps` times in all."""
    if config.schedule == "onecycle":
        return optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps, pct_start=0.25)
    return optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def optimizer_state(optimizer: optim.Optimizer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """`optimizer.state_dict()` as (arrays named "parameter.entry", the rest for JSON)."""
    state = optimizer.state_dict()
    arrays: dict[str, np.ndarray] = {}
    numbers: dict[str, Any] = {}
    for parameter, entries in state["state"].items():
        for entry, value in entries.items():
            name = f"{parameter}.{entry}"
            if hasattr(value, "numpy"):
                arrays[name] = value.numpy()
            elif isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                numbers[name] = value
    return arrays, {"numbers": numbers, "param_groups": state["param_groups"]}


def load_optimizer(optimizer: optim.Optimizer, arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> None:
    """Undoes `optimizer_state`."""
    state: dict[int, dict[str, Any]] = {}
    tensors = {name: Tensor(array) for name, array in arrays.items()}
    for name, value in {**tensors, **rest["numbers"]}.items():
        parameter, entry = name.split(".", 1)
        state.setdefault(int(parameter), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["param_groups"]})
