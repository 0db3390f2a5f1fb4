"""The training loop, the only one: `fit` and `Trainer` are two ways to set it up."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from .. import Tensor, autocast, nn, no_grad, optim
from ..data.checks import check_integer, check_number
from ..functional._common import as_tensor
from .callbacks import Callback
from .checkpoint import load_checkpoint, save_checkpoint
from .history import History
from .interrupts import Interrupts
from .parallel import Parallel
from .store import RunError

__all__ = ["Diverged", "Loop", "Metric", "measure", "mixed_precision"]

Metric = Callable[[Tensor, Any], tuple[float, float]]


class Diverged(RunError):
    """The loss is no finite number any more."""


def mixed_precision(amp: str) -> autocast:
    """The context of an `amp`: "off" or the dtype of `cnnext.autocast`."""
    return autocast(enabled=False) if amp == "off" else autocast(amp)


class _Sums(dict[str, list]):
    """{name: [sum, count]} of values over the batches of a pass."""

    def add(
        self,
        output: Tensor,
        target: Any,
        loss: float,
        metrics: Mapping[str, Metric],
        parallel: Parallel | None = None,
        interrupts: Interrupts | None = None,
    ) -> float:
        """One batch more, in each process; its loss over all of them, which learn of each other's signals."""
        parts = {"loss": (loss * len(target), len(target))}
        parts |= {name: metric(output, target) for name, metric in metrics.items()}
        if parallel is not None:
            *totals, signals = parallel.total([*parts.values(), interrupts.caught()]).tolist()
            interrupts.agree(signals)
            parts = dict(zip(parts, totals, strict=True))
            loss = parts["loss"][0] / parts["loss"][1]
        for name, (total, count) in parts.items():
            entry = self.setdefault(name, [0, 0])
            entry[0] += total
            entry[1] += count
        return loss

    def means(self, prefix: str = "") -> dict[str, float]:
        return {prefix + name: total / max(count, 1) for name, (total, count) in self.items()}


def measure(
    model: nn.Module,
    loader: Any,
    loss: Callable[[Tensor, Any], Tensor],
    metrics: Mapping[str, Metric],
    amp: str = "off",
) -> dict[str, float]:
    """Loss and metrics of `model` over `loader`, without gradients; leaves it in evaluation mode."""
    model.eval()
    sums = _Sums()
    with no_grad(), mixed_precision(amp):
        for images, target in loader:
            output = model(as_tensor(images))
            sums.add(output, target, loss(output, as_tensor(target)).item(), metrics)
    return sums.means()


class Loop:
    """Trains `model` on the batches of `loader`; see `fit` for the arguments, and `Callback` for attributes.

    parallel: the processes that share each step, `loader` giving this one's part of it. validate: called
    after each epoch; its values join the history under "validation_" and their names.

    Everything that a run's numbers follow from is in save() and load(), so that a run which goes on from a
    checkpoint, at whichever step it was written, ends with the bits of one that was never stopped.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Any,
        *,
        optimizer: optim.Optimizer,
        loss: Callable[[Tensor, Any], Tensor],
        metrics: Mapping[str, Metric],
        scheduler: Any = None,
        scheduler_step: str = "epoch",
        validate: Callable[[], Mapping[str, float]] | None = None,
        callbacks: Sequence[Callback] = (),
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        amp: str = "off",
        metadata: Mapping[str, Any] | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        check_integer("accumulate", accumulate, 1)
        for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if bound is not None:
                check_number(name, bound, f"{name} > 0", lambda value: value > 0)
        if scheduler_step not in ("epoch", "step"):
            raise ValueError(f"scheduler_step is {scheduler_step!r}; the rule is one of epoch, step")
        self.model, self.loader, self.optimizer, self.scheduler = model, loader, optimizer, scheduler
        self.loss, self.metrics, self.validate = loss, dict(metrics), validate
        self.callbacks = list(callbacks)
        self.accumulate, self.clip_norm, self.clip_value, self.amp = accumulate, clip_norm, clip_value, amp
        self.scheduler_step, self.metadata, self.parallel = scheduler_step, metadata, parallel
        self.scaler = optim.GradScaler(enabled=amp == "float16")
        self.history = History()
        self.epochs = self.epoch = self.batch = self.step = 0
        self.stop = self.is_complete = False
        self._sums, self._seconds = _Sums(), 0.0
        self._in_epoch = self._fitted = False  # an epoch has begun; all its batches are done
        self._whole = True  # the state is that between two steps
        self._stateful = hasattr(loader, "load_state_dict")
        self._position: Any = None  # the loader's, behind the last step's batches
        self._note_position()
        self._interrupts = Interrupts(together=parallel is not None)

    # -- what callbacks ask for --

    @property
    def measured(self) -> dict[str, float]:
        """Means over the epoch's batches so far: "loss" and the metrics."""
        return self._sums.means()

    @property
    def seen(self) -> int:
        """Images of the epoch so far."""
        return int(self._sums["loss"][1]) if self._sums else 0

    @property
    def images_per_second(self) -> float:
        """Of the epoch so far, validation left out."""
        return self.seen / max(self._seconds, 1e-9)

    # -- the loop --

    def run(self, epochs: int) -> History:
        """Train until `epochs` are complete in all, or a callback sets `stop`.

        Raises:
            Diverged: the loss of a step or of the validation is no finite number.
            Interrupted: Ctrl-C or SIGTERM came; the step was finished first.
        """
        self.epochs, self.stop, self.is_complete = epochs, False, False
        try:
            with self._interrupts:
                self._tell("on_train_begin")
                try:
                    self._agree()
                    while self.history.epochs < epochs and not self.stop:
                        self._epoch()
                except BaseException:
                    if self._whole:
                        with contextlib.suppress(Exception):  # the first error is the one to tell
                            self._tell("on_interruption")
                    raise
                self.is_complete = True
        finally:
            self._tell("on_train_end")
        return self.history

    def _agree(self) -> None:
        """What one process was asked for, to stop or by a signal, holds for all."""
        if self.parallel is not None:
            stop, *signals = self.parallel.total([self.stop, *self._interrupts.caught()]).tolist()
            self.stop = stop > 0
            self._interrupts.agree(signals)
        self._interrupts.check()

    def _tell(self, what: str) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(self)

    def _epoch(self) -> None:
        self.epoch = self.history.epochs + 1
        if not self._in_epoch:
            self.batch, self._sums, self._seconds, self._fitted = 0, _Sums(), 0.0, False
            self._tell("on_epoch_begin")
            self._note_position()
            self._in_epoch = True
        if not self._fitted:
            self._fit()
            self._fitted = True
        row = {"epoch": self.epoch, "lr": float(self.optimizer.param_groups[0]["lr"])}
        row |= self._sums.means("train_")
        if self.validate is not None:
            if self.parallel is not None:
                self.parallel.settle()
            with self._interrupts.at_once():
                held_out = self.validate()
            if "loss" not in held_out:
                raise ValueError("the validation loader gave no batch")
            # The last step of an epoch can ruin the weights after its own loss was fine.
            self._judge(held_out["loss"])
            row |= {f"validation_{name}": value for name, value in held_out.items()}
        self._whole = False
        if self.scheduler is not None and self.scheduler_step == "epoch":
            plateau = isinstance(self.scheduler, optim.lr_scheduler.ReduceLROnPlateau)
            self.scheduler.step(*([row.get("validation_loss", row["train_loss"])] if plateau else []))
        self.history.append(row | {"seconds": self._seconds, "images_per_second": self.images_per_second})
        self._in_epoch = False
        self._whole = True
        self._tell("on_epoch_end")
        self._agree()

    def _fit(self) -> None:
        self.model.train()
        before, started = self._seconds, time.perf_counter()
        for batches in self._groups():
            self._whole = False
            self._step(batches)
            self.batch += len(batches)
            self.step += 1
            self._fitted = len(batches) < self.accumulate  # the loader has ended, and stands at the next pass
            self._note_position()
            self._whole = True
            self._seconds = before + time.perf_counter() - started
            self._tell("on_batch_end")
            self._interrupts.check()
        self._note_position()
        if not self.batch:
            raise ValueError("the loader gave no batch")

    def _note_position(self) -> None:
        if self._stateful:
            self._position = self.loader.state_dict()

    def _groups(self) -> Iterator[list]:
        """The epoch's batches that are not done yet, `accumulate` at a time."""
        batches = iter(self.loader)
        if not self._stateful:  # one that is stands there already
            next(itertools.islice(batches, self.batch, self.batch), None)
        while group := list(itertools.islice(batches, self.accumulate)):
            yield group

    def _step(self, batches: list) -> None:
        images = sum(len(target) for _, target in batches)
        model = self.model if self.parallel is None else self.parallel.model
        together = (self.parallel, self._interrupts)
        self.optimizer.zero_grad()
        for inputs, target in batches:
            with mixed_precision(self.amp):
                output = model(as_tensor(inputs))
                loss = self.loss(output, as_tensor(target))
            # A batch's part in the mean over all of them.
            part = loss if len(batches) == 1 else loss * (len(target) / images)
            self.scaler.scale(part).backward()
            self._judge(self._sums.add(output, target, loss.item(), self.metrics, *together))
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scheduler is not None and self.scheduler_step == "step":
            self.scheduler.step()

    def _clip(self) -> None:
        if self.clip_norm is None and self.clip_value is None:
            return
        self.scaler.unscale_(self.optimizer)
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(params, self.clip_norm)
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(params, self.clip_value)

    def _judge(self, loss: float) -> None:
        if not math.isfinite(loss):
            self._whole = False
            raise Diverged(f"the loss became {loss} in epoch {self.epoch}")

    # -- checkpoints --

    def _parts(self, loader: Any) -> list[Any]:
        return [self.model, self.optimizer, self.scheduler, self.scaler, loader if self._stateful else None]

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Write a checkpoint, with `extra` beside; errors as save_checkpoint's."""
        names = ("batch", "step", "_in_epoch", "_fitted", "_seconds")
        state = {name: getattr(self, name) for name in names} | {"_sums": dict(self._sums)}
        state["history"] = self.history.rows
        # Batches of a step that was not made are to come again.
        loader = SimpleNamespace(state_dict=lambda: self._position)
        save_checkpoint(path, *self._parts(loader), extra={"loop": state, **extra}, metadata=self.metadata)

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Go on from a checkpoint, and return its `extra`; errors as load_checkpoint's."""
        extra = load_checkpoint(path, *self._parts(self.loader))
        self._note_position()
        try:
            state = dict(extra["loop"])
            self.history, self._sums = History(state.pop("history")), _Sums(state.pop("_sums"))
            for name in ("batch", "step", "_in_epoch", "_fitted", "_seconds"):
                setattr(self, name, state[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)}: not the state of a run ({error!r})") from None
        return extra
