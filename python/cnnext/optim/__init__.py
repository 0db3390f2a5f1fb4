"""Optimisers, learning rate schedules and loss scaling, with torch.optim's names, defaults and state."""

from . import lr_scheduler, swa_utils
from .adam import Adam, AdamW
from .grad_scaler import GradScaler
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "GradScaler", "Optimizer", "lr_scheduler", "swa_utils"]
