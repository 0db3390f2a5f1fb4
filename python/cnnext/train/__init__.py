"""Training: `fit`, checkpoints, callbacks, history, and the engine behind `cnnext train`.

>>> from cnnext import train
>>> config = train.TrainConfig.preset("digits", epochs=10)
>>> result = train.run(config)
>>> result.test_accuracy
"""

from .callbacks import Callback, EarlyStopping, KeepBest, SaveCheckpoint, TensorBoard
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainConfig
from .engine import Evaluation, Trainer, evaluate, saved_config
from .fitting import fit
from .history import History
from .interrupts import Interrupted
from .loop import Diverged, Loop
from .metrics import accuracy, mean_iou
from .runner import Result, run
from .store import RunError, RunFolder

__all__ = [
    "Callback",
    "Diverged",
    "EarlyStopping",
    "Evaluation",
    "History",
    "Interrupted",
    "KeepBest",
    "Loop",
    "Result",
    "RunError",
    "RunFolder",
    "SaveCheckpoint",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "accuracy",
    "evaluate",
    "fit",
    "load_checkpoint",
    "mean_iou",
    "run",
    "save_checkpoint",
    "saved_config",
]
