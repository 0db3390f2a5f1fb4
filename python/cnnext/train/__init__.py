"""The training engine behind `cnnext train`: configuration, loop, progress, checkpoints, history.

>>> from cnnext import train
>>> config = train.TrainConfig.preset("digits", epochs=10)
>>> result = train.run(config)
>>> result.test_accuracy
"""

from .config import TrainConfig
from .engine import Evaluation, Trainer, evaluate
from .runner import Result, run, saved_config
from .store import RunError, RunFolder

__all__ = [
    "Evaluation",
    "Result",
    "RunError",
    "RunFolder",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "run",
    "saved_config",
]
