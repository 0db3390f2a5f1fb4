"""The training loop: one class that fits a model, watches it on held-out images and keeps the best."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np

from .. import Tensor, autocast, data, manual_seed, nn, no_grad, optim
from .config import TrainConfig
from .optimizer import make_optimizer, make_scheduler
from .progress import Reporter, SilentReporter
from .store import RunError, RunFolder, load_state

__all__ = ["BEST", "LAST", "Evaluation", "Trainer", "evaluate"]

BEST = "checkpoint.safetensors"
LAST = "last.safetensors"
HISTORY = (
    "epoch",
    "lr",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)
# Kept apart from the history, which is the same for every run of the same configuration.
TIMING = ("epoch", "seconds", "images_per_second")
_EVALUATION_BATCH = 256
# What configurations that were saved before there was a choice stand for.
_ABSENT = {"amp": "off"}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, share of right answers, and the predicted class of every image (N,) int64."""

    loss: float
    accuracy: float
    predictions: np.ndarray


def evaluate(
    model: nn.Module,
    images: data.ImageSet,
    *,
    channels_last: bool = False,
    device: str = "cpu",
    amp: str = "off",
) -> Evaluation:
    """Runs `model`, which is on `device`, over `images` without gradients; leaves it in evaluation mode."""
    model.eval()
    loss, predictions = 0.0, []
    loader = data.DataLoader(images, _EVALUATION_BATCH, channels_last=channels_last, device=device)
    with no_grad(), mixed_precision(amp):
        for batch, labels in loader:
            logits = model(Tensor(batch))
            loss += nn.functional.cross_entropy(logits, Tensor(labels), reduction="sum").item()
            predictions.append(logits.argmax(1).cpu().numpy())
    predicted = np.concatenate(predictions) if predictions else np.zeros(0, np.int64)
    count = max(1, len(images))
    return Evaluation(loss / count, int((predicted == images.labels).sum()) / count, predicted)


def mixed_precision(amp: str) -> autocast:
    """The context of a configuration's `amp`."""
    return autocast(enabled=False) if amp == "off" else autocast(amp)


class Trainer:
    """Fits `model` to `fit` by `config`, chooses its best epoch on `validation`, saves into `folder`.

    The model is moved to `device`, "cpu", "cuda" or "cuda:N"; checkpoints hold no device.

    After every epoch `folder` holds the best model so far (``checkpoint.safetensors``), what is
    needed to go on (``last.safetensors``), ``history.csv``, ``timing.csv`` and ``config.json``. The
    best epoch has the highest validation accuracy, among equals it is the latest, whose learning rate
    has come down furthest. Runs of one configuration write the same checkpoint and history, byte for
    byte; times are in ``timing.csv`` and ``last.safetensors`` only.

    Everything random in epoch k follows from (config.seed, k), so a run that was interrupted and
    resumed ends with the same bits as one that was not.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        fit: data.ImageSet,
        validation: data.ImageSet,
        folder: RunFolder,
        reporter: Reporter | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model.to(device)
        self.device = device
        self.config = config
        self.validation = validation
        self.folder = folder
        self.reporter = reporter or SilentReporter()
        self.history: list[dict[str, Any]] = []
        self.best_epoch = 0
        zoom = (1 - config.zoom, 1 + config.zoom)
        self.loader = data.DataLoader(
            fit,
            config.batch_size,
            shuffle=True,
            seed=config.seed,
            transform=data.RandomAffine(config.rotate, config.shift, zoom),
            channels_last=config.channels_last,
            device=device,
        )
        self.scaler = optim.GradScaler(enabled=config.amp == "float16")
        self.optimizer = make_optimizer(model, config)
        self.scheduler = make_scheduler(self.optimizer, config, config.epochs * len(self.loader))

    def run(self) -> None:
        """Trains up to the configured epoch.

        Raises:
            RunError: the loss is no finite number, or a file cannot be written. What was saved
                after earlier epochs stays.
        """
        done = len(self.history)
        self.reporter.start(self.config.epochs, len(self.loader.dataset), done)
        try:
            for epoch in range(done + 1, self.config.epochs + 1):
                row = self._epoch(epoch)
                self.history.append(row)
                self._save()
                self.reporter.epoch(row)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._left()) from None
        finally:
            self.reporter.stop()

    def resume(self) -> None:
        """Takes up the state of ``last.safetensors``.

        Raises:
            RunError: there is none, or it belongs to another configuration.
        """
        path = self.folder.path / LAST
        state = load_state(path)
        if {**_ABSENT, **state.get("config", {})} != self.config.to_dict():
            raise RunError(f"{path}: saved by a run with another configuration")
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def evaluate(self, images: data.ImageSet) -> Evaluation:
        """`evaluate` as the run computes."""
        config = self.config
        return evaluate(
            self.model, images, channels_last=config.channels_last, device=self.device, amp=config.amp
        )

    def _epoch(self, epoch: int) -> dict[str, Any]:
        self.model.train()
        self.loader.set_epoch(epoch - 1)
        manual_seed(_epoch_seed(self.config.seed, epoch))
        seen = right = 0
        loss_sum = 0.0
        started = time.perf_counter()
        for images, labels in self.loader:
            loss, correct = self._step(images, labels)
            if not math.isfinite(loss):
                raise RunError(self._diverged(loss, epoch))
            seen += len(labels)
            right += correct
            loss_sum += loss * len(labels)
            rate = seen / (time.perf_counter() - started)
            self.reporter.batch(epoch, seen, loss_sum / seen, right / seen, rate)
        seconds = time.perf_counter() - started
        held_out = self.evaluate(self.validation)
        # The last step of an epoch can ruin the weights after its own loss was fine.
        if not math.isfinite(held_out.loss):
            raise RunError(self._diverged(held_out.loss, epoch))
        return {
            "epoch": epoch,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "train_loss": loss_sum / seen,
            "train_accuracy": right / seen,
            "validation_loss": held_out.loss,
            "validation_accuracy": held_out.accuracy,
            "seconds": seconds,
            "images_per_second": seen / seconds,
        }

    def _step(self, images: Any, labels: Any) -> tuple[float, int]:
        with mixed_precision(self.config.amp):
            logits = self.model(Tensor(images))
            loss = nn.functional.cross_entropy(
                logits, Tensor(labels), label_smoothing=self.config.label_smoothing
            )
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return loss.item(), int((logits.detach().argmax(1).data == labels).sum())

    def _diverged(self, loss: float, epoch: int) -> str:
        return f"the loss became {loss} in epoch {epoch}; {self._left()}; a smaller --lr may help"

    def _left(self) -> str:
        """What a run that ends early has saved."""
        if not self.best_epoch:
            return "no checkpoint was written"
        return f"{self.folder.path / BEST} keeps epoch {self.best_epoch}"

    def _save(self) -> None:
        """The best model first: if the run dies in between, a resumed run repeats the epoch and writes it."""
        row = self.history[-1]
        best = max(self.history, key=lambda r: (r["validation_accuracy"], r["epoch"]))
        model = self.model.state_dict()
        if best is row:
            self.folder.save(BEST, model)
        self.best_epoch = best["epoch"]
        state = {
            "config": self.config.to_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "model": model,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        self.folder.save(LAST, state)
        self.folder.write_table("history.csv", HISTORY, self.history)
        self.folder.write_table("timing.csv", TIMING, self.history)
        self.folder.write_json("config.json", self.config.to_dict())


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))
