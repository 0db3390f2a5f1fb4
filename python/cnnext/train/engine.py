"""A run by configuration: the loop, a folder for its files, and the best epoch on held-out images."""

from __future__ import annotations

import dataclasses
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import Tensor, data, manual_seed, nn
from ..data.checks import check_integer
from ..distributed import Group
from .callbacks import Callback
from .config import TrainConfig
from .history import TIMES, as_csv
from .interrupts import Interrupted
from .loop import Diverged, Loop, measure
from .metrics import accuracy, mean_iou
from .optimizer import make_optimizer, make_scheduler
from .parallel import Parallel, share_of_batch
from .progress import Progress, Reporter, SilentReporter
from .store import RunError, RunFolder, load_state
from .tasks import augmentation, described

__all__ = ["BEST", "LAST", "Evaluation", "Trainer", "evaluate", "saved_config"]

BEST = "checkpoint.safetensors"
LAST = "last.safetensors"
_EVALUATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, share of right labels, and the predicted ones, int64 of the labels' shape.

    mean_iou: for labels of pixels (N, H, W); None for those of images (N,).
    """

    loss: float
    accuracy: float
    predictions: np.ndarray
    mean_iou: float | None = None


def evaluate(
    model: nn.Module,
    images: data.ImageSet,
    *,
    channels_last: bool = False,
    device: str = "cpu",
    amp: str = "off",
) -> Evaluation:
    """Runs `model`, which is on `device`, over `images` without gradients; leaves it in evaluation mode."""
    predictions = []

    def watched(output: Tensor, labels: Any) -> tuple[int, int]:
        predictions.append(output.argmax(1).cpu().numpy())
        return accuracy(output, labels)

    loader = data.DataLoader(images, _EVALUATION_BATCH, channels_last=channels_last, device=device)
    found = measure(model, loader, nn.functional.cross_entropy, {"accuracy": watched}, amp)
    predicted = np.concatenate(predictions) if predictions else np.zeros(images.labels.shape, np.int64)
    iou = mean_iou(predicted, images.labels, images.classes) if images.labels.ndim > 1 else None
    return Evaluation(found.get("loss", 0.0), found.get("accuracy", 0.0), predicted, iou)


class Trainer(Callback):
    """Fits `model` to `fit` by `config`, chooses its best epoch on `validation`, saves into `folder`.

    The model is moved to `device`, "cpu", "cuda" or "cuda:N"; checkpoints hold no device.

    After every epoch `folder` holds the best model so far (``checkpoint.safetensors``: its weights, and in
    the metadata what `cnnext predict` needs), what is needed to go on (``last.safetensors``), ``history.csv``
    and ``history.jsonl``, ``timing.csv`` and ``config.json``. The best epoch has the highest validation
    accuracy (of pixels: mean IoU), among equals it is the latest, whose learning rate has come down furthest.
    Runs of one configuration write the same checkpoint and history, byte for byte; times are in
    ``timing.csv`` and ``last.safetensors`` only.

    A run that was interrupted and resumed, at any step, ends with the same bits as one that was not.

    Args:
        save_every: also save ``last.safetensors`` every so many steps within an epoch.
        group: the processes that train together: each has its share of the images of `fit` and of each batch.
            The others' folders are not the first one's.
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
        save_every: int | None = None,
        callbacks: tuple[Callback, ...] = (),
        group: Group | None = None,
    ) -> None:
        if save_every is not None:
            check_integer("save_every", save_every, 1)
        self.model = model.to(device)
        self.device, self.config, self.folder = device, config, folder
        self.validation, self.save_every = validation, save_every
        self._is_beside = group is not None and group.rank > 0
        self._saved_step: int | None = None  # that the file LAST stands at
        self.monitor = "validation_mean_iou" if fit.labels.ndim > 1 else "validation_accuracy"
        batch, parallel = config.batch_size, None
        if group is not None and group.size > 1:
            batch, parallel = share_of_batch(batch, group), Parallel(self.model, group)
            fit = parallel.share(fit)
        self.loader = data.DataLoader(
            fit,
            batch,
            shuffle=True,
            seed=config.seed,
            drop_last=len(fit) > batch and len(fit) % batch == 1,  # for batch norm
            transform=augmentation(config),
            channels_last=config.channels_last,
            device=device,
        )
        self.optimizer = make_optimizer(model, config)
        steps = -(-len(self.loader) // config.accumulate)
        self.scheduler = make_scheduler(self.optimizer, config, config.epochs * steps)
        self.progress = Progress(reporter or SilentReporter())
        self.loop = Loop(
            model,
            self.loader,
            optimizer=self.optimizer,
            loss=partial(nn.functional.cross_entropy, label_smoothing=config.label_smoothing),
            metrics={"accuracy": accuracy},
            scheduler=self.scheduler,
            scheduler_step="step",
            validate=self._validate,
            callbacks=[self, *callbacks, self.progress],
            accumulate=config.accumulate,
            clip_norm=config.clip_norm or None,
            amp=config.amp,
            metadata=described(config, fit),
            parallel=parallel,
        )
        self.scaler = self.loop.scaler

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict an epoch that is complete."""
        return self.loop.history.rows

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, 0 before the first."""
        return self.loop.history.best(self.monitor)

    def run(self) -> None:
        """Trains up to the configured epoch.

        Raises:
            RunError: the loss is no finite number, a file cannot be written, a batch cannot be made. What was
                saved before stays.
            Interrupted: Ctrl-C or SIGTERM; the state behind the last step was saved.
        """
        try:
            self.loop.run(self.config.epochs)
        except Diverged as error:
            raise Diverged(f"{self.with_left(error)}; a smaller --lr may help") from None
        except KeyboardInterrupt as error:
            number, together = getattr(error, "signal", signal.SIGINT), getattr(error, "together", False)
            raise Interrupted(self._left(), number, together) from None
        except (RunError, MemoryError):
            raise
        except Exception as error:
            raise RunError(self.with_left(f"{type(error).__name__}: {error}")) from error

    def resume(self) -> None:
        """Takes up the state of ``last.safetensors``.

        Raises:
            RunError: there is none, or it belongs to another configuration.
        """
        path = self.folder.path / LAST
        if saved_config(self.folder.path) != self.config:
            raise RunError(f"{path}: saved by a run with another configuration")
        try:
            self.loop.load(path)
            self._saved_step = self.loop.step
        except ValueError as error:
            raise RunError(str(error)) from None

    def evaluate(self, images: data.ImageSet) -> Evaluation:
        """`evaluate` as the run computes."""
        config = self.config
        return evaluate(
            self.model, images, channels_last=config.channels_last, device=self.device, amp=config.amp
        )

    def _validate(self) -> dict[str, float]:
        found = self.evaluate(self.validation)
        values = {"loss": found.loss, "accuracy": found.accuracy}
        return values if found.mean_iou is None else values | {"mean_iou": found.mean_iou}

    def with_left(self, error: Any) -> str:
        """An error's text, and what the run that it ends has saved."""
        return "; ".join(filter(None, (str(error), self._left())))

    def _left(self) -> str:
        """What a run that ends early has saved; nothing of a process beside the first, whose files go."""
        if self._is_beside:
            return ""
        left = []
        if self._saved_step is not None:
            left.append(f"{self.folder.path / LAST} goes on from step {self._saved_step}")
        if self.best_epoch:
            left.append(f"{self.folder.path / BEST} keeps epoch {self.best_epoch}")
        return "; ".join(left) or "no checkpoint was written"

    # -- what the loop calls --

    def on_train_begin(self, run: Loop) -> None:
        if run.history:  # a run that died between two files
            self._write_history()

    def on_epoch_begin(self, run: Loop) -> None:
        self.loader.set_epoch(run.epoch - 1)
        manual_seed(_epoch_seed(self.config.seed, run.epoch))

    def on_batch_end(self, run: Loop) -> None:
        if self.save_every and run.step % self.save_every == 0:
            self._save_state()

    def on_epoch_end(self, run: Loop) -> None:
        """The best model first: if the run dies in between, a resumed run writes it again."""
        if self.best_epoch == run.epoch:
            self.folder.save(BEST, self.model.state_dict(), run.metadata)
        self._save_state()
        self._write_history()

    def on_interruption(self, run: Loop) -> None:
        self._save_state()

    def _save_state(self) -> None:
        with self.folder.saving(LAST) as path:
            self.loop.save(path, config=self.config.to_dict())
        self._saved_step = self.loop.step

    def _write_history(self) -> None:
        history = self.loop.history
        for name, text in (
            ("history.csv", as_csv(history.columns(), history.rows)),
            ("history.jsonl", history.json_lines()),
            ("timing.csv", as_csv(("epoch", *TIMES), history.rows)),
        ):
            self.folder.write(name, text.encode())
        self.folder.write_json("config.json", self.config.to_dict())


def saved_config(folder: Any) -> TrainConfig:
    """The configuration of the run in `folder`, to resume it with.

    Raises:
        RunError: there is no run that can be resumed.
    """
    saved = Path(folder) / LAST
    try:
        return TrainConfig(**load_state(saved)["extra"]["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{saved}: not the state of a run ({error})") from None


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))
