"""What a run tells while it goes, and what most runs want done with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.checks import check_integer, check_number
from ..serialization import load, save
from .history import check_mode

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["Callback", "EarlyStopping", "KeepBest", "SaveCheckpoint", "TensorBoard"]


class Callback:
    """Called by the loop, which is the argument: its attributes say what there is to know.

    run.model, run.optimizer, run.loader; run.history, the epochs that are complete; run.epochs, how many
    there are to be; run.epoch, the current one's number, from 1; run.batch, how many batches of it are done;
    run.step, the optimizer's steps since the first epoch; run.measured, the epoch's values so far. Setting
    run.stop, in any of the processes that train together, ends the run behind this epoch.
    """

    def on_train_begin(self, run: Loop) -> None:
        """Before the first epoch, after a checkpoint was taken up."""

    def on_epoch_begin(self, run: Loop) -> None:
        """Not where a resumed run goes on within an epoch."""

    def on_batch_end(self, run: Loop) -> None:
        """After each step of the optimizer, which is `accumulate` batches."""

    def on_epoch_end(self, run: Loop) -> None:
        """run.history.rows[-1] is this epoch's."""

    def on_interruption(self, run: Loop) -> None:
        """An error or a signal ends the run, at a point from which a checkpoint can be resumed."""

    def on_train_end(self, run: Loop) -> None:
        """In any case, after an error too."""


class EarlyStopping(Callback):
    """Ends a run when a value has not become better for `patience` epochs.

    Args:
        monitor: a column of the history.
        patience: epochs without a better value, >= 1.
        mode: "min", "max" or "auto", as History.best.
        min_delta: a smaller step does not count as better.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 5,
        mode: str = "auto",
        min_delta: float = 0.0,
    ) -> None:
        check_integer("patience", patience, 1)
        check_number("min_delta", min_delta, "a finite min_delta >= 0", lambda value: value >= 0)
        check_mode(mode)
        self.monitor, self.patience, self.mode, self.min_delta = monitor, patience, mode, min_delta

    # All follows from the history, so that a resumed run stops where the unbroken one does.
    def on_train_begin(self, run: Loop) -> None:
        self.on_epoch_end(run)

    def on_epoch_end(self, run: Loop) -> None:
        if not run.history:
            return
        run.history.best(self.monitor, self.mode)  # judges both
        less = self.mode == "min" or (self.mode == "auto" and self.monitor.endswith("loss"))
        best, since = float("-inf"), 0
        for value in run.history[self.monitor]:
            value = -value if less else value
            best, since = (value, 0) if value > best + self.min_delta else (best, since + 1)
        run.stop = run.stop or since >= self.patience


class KeepBest(Callback):
    """Saves the model's weights after each epoch that is the best so far, among equals the latest.

    Args:
        path: a safetensors file: a flat state dict, which `model.load_state_dict(cnnext.load(path))` takes.
        monitor, mode: as History.best.
        restore: give the model the best weights when the run has ended without an error.
        metadata: kept in the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "validation_loss",
        mode: str = "auto",
        restore: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_mode(mode)
        self.path, self.monitor, self.mode = Path(path), monitor, mode
        self.restore, self.metadata = restore, metadata

    def on_epoch_end(self, run: Loop) -> None:
        if run.history.best(self.monitor, self.mode) == run.epoch:
            save(run.model.state_dict(), self.path, self.metadata)

    def on_train_end(self, run: Loop) -> None:
        if self.restore and run.is_complete and run.history:
            run.model.load_state_dict(load(self.path))


class SaveCheckpoint(Callback):
    """Saves all that is needed to go on: after each epoch, every `every` steps, and at an interruption.

    Args:
        path: the file; `fit(..., checkpoint=path, resume=True)` goes on from it.
        every: steps of the optimizer; None saves within no epoch.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = None) -> None:
        if every is not None:
            check_integer("every", every, 1)
        self.path, self.every = path, every

    def on_batch_end(self, run: Loop) -> None:
        if self.every and run.step % self.every == 0:
            run.save(self.path)

    def on_epoch_end(self, run: Loop) -> None:
        run.save(self.path)

    def on_interruption(self, run: Loop) -> None:
        run.save(self.path)


class TensorBoard(Callback):
    """Writes TensorBoard's event files; needs tensorboardX: pip install 'cnnext[tensorboard]'.

    Args:
        folder: where; `tensorboard --logdir FOLDER` shows them.
        every: steps between two values of the running training loss.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 10) -> None:
        try:
            import tensorboardX
        except ImportError:
            raise ImportError("event files need tensorboardX: pip install 'cnnext[tensorboard]'") from None
        check_integer("every", every, 1)
        self._new_writer = tensorboardX.SummaryWriter
        self._folder, self._every, self._writer = os.fspath(folder), every, None

    def on_train_begin(self, run: Loop) -> None:
        self._writer = self._new_writer(self._folder, purge_step=run.step + 1)

    def on_batch_end(self, run: Loop) -> None:
        if run.step % self._every == 0:
            for name, value in run.measured.items():
                self._writer.add_scalar(f"batch/{name}", value, run.step)

    def on_epoch_end(self, run: Loop) -> None:
        row = run.history.rows[-1]
        for name in row:
            if name != "epoch":
                self._writer.add_scalar(name.replace("_", "/", 1), row[name], run.step)

    def on_train_end(self, run: Loop) -> None:
        if self._writer is not None:
            self._writer.close()
