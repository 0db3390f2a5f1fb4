"""cnnext.fit: training for those who want no loop of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import Tensor, nn, optim
from ..data.checks import check_integer
from .callbacks import Callback, SaveCheckpoint
from .history import History
from .loop import Loop, Metric, measure
from .metrics import accuracy
from .progress import Progress, choose_reporter

__all__ = ["fit"]


def fit(
    model: nn.Module,
    loader: Any,
    epochs: int = 1,
    *,
    optimizer: optim.Optimizer | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    validation: Any = None,
    scheduler: Any = None,
    scheduler_step: str = "epoch",
    accumulate: int = 1,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    amp: str = "off",
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> History:
    """Train `model` on the batches of `loader`, and return what was measured (Keras' Model.fit).

        history = cx.fit(model, loader, epochs=5, validation=held_out)
        history["validation_accuracy"]  # one value an epoch
        history.to_csv("history.csv")

    Args:
        model: on the device that the batches are on.
        loader: an iterable of (images, labels), a new pass for each loop: a `data.DataLoader`, or any list.
        epochs: how many are to be complete in all, >= 1.
        optimizer: `optim.AdamW(model.parameters())` without one.
        loss: ``f(output, labels)``, the mean over a batch; cross-entropy without one.
        metrics: {name: ``f(output, labels) -> (sum, count)``}; without them the accuracy beside
            cross-entropy, none beside another loss.
        validation: a loader; measured after each epoch, in evaluation mode.
        scheduler: of the learning rate; stepped after each epoch, or with scheduler_step="step" after each
            step of the optimizer. A `ReduceLROnPlateau` gets the validation's loss, else the training's.
        accumulate: batches to a step: the gradients are those of one batch of all their images, if the loss
            is a mean over images (with class weights or ignore_index the batches' means are averaged).
        clip_norm: the largest joint norm of the gradients; clip_value: of each of their elements.
        amp: "off", or "float16" or "bfloat16" for `cnnext.autocast`; with "float16" the loss is scaled.
        callbacks: see `train.Callback`, `EarlyStopping`, `KeepBest`, `TensorBoard`.
        checkpoint: a file to save the whole state to after each epoch, every `save_every` steps, and where
            an error in the loader, Ctrl-C or SIGTERM ends the run.
        resume: go on from `checkpoint` where that file exists, at the step it was written; the run ends with
            the bits of one that was never stopped, given the same arguments and, for a loader without
            state_dict(), the same batches in each pass.
        quiet: print nothing.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is wrong, or the checkpoint is damaged or of another network.
        RunError: the loss became infinite or NaN.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was finished first.
    """
    check_integer("epochs", epochs, 1)
    if checkpoint is None and (resume or save_every is not None):
        raise ValueError("resume and save_every need the path of a checkpoint: checkpoint=...")
    if metrics is None:
        metrics = {"accuracy": accuracy} if loss is None else {}
    loss = loss or nn.functional.cross_entropy
    saving = [] if checkpoint is None else [SaveCheckpoint(checkpoint, save_every)]

    def validate() -> dict[str, float]:
        if hasattr(validation, "set_epoch"):  # what it draws follows from the epoch, in a resumed run too
            validation.set_epoch(loop.epoch - 1)
        return measure(model, validation, loss, metrics, amp)

    loop = Loop(
        model,
        loader,
        optimizer=optimizer or optim.AdamW(model.parameters()),
        loss=loss,
        metrics=metrics,
        scheduler=scheduler,
        scheduler_step=scheduler_step,
        validate=None if validation is None else validate,
        callbacks=[*callbacks, *saving, Progress(choose_reporter(quiet))],
        accumulate=accumulate,
        clip_norm=clip_norm,
        clip_value=clip_value,
        amp=amp,
    )
    if resume and os.path.exists(checkpoint):
        loop.load(checkpoint)
    return loop.run(epochs)
