"""The optimiser and learning-rate schedule that a configuration names."""

from __future__ import annotations

from .. import nn, optim
from .config import TrainConfig

__all__ = ["make_optimizer", "make_scheduler"]


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
