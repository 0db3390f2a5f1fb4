"""What a run prints while it goes: a rich progress bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .callbacks import Callback

if TYPE_CHECKING:
    from .loop import Loop

__all__ = [
    "INSTALL_HINT",
    "PlainReporter",
    "Progress",
    "Reporter",
    "RichReporter",
    "SilentReporter",
    "choose_reporter",
]


INSTALL_HINT = "pip install 'cnnext[train]'"


class Reporter(Protocol):
    """Told what happens. `stop` is called in every case, after an error too.

    images: in an epoch, 0 where the loader does not say.
    """

    def start(self, epochs: int, images: int, first_epoch: int) -> None: ...
    def batch(
        self, epoch: int, seen: int, measured: Mapping[str, float], images_per_second: float
    ) -> None: ...
    def epoch(self, row: Mapping[str, Any]) -> None: ...
    def say(self, message: str) -> None: ...
    def stop(self) -> None: ...


class SilentReporter:
    """Prints nothing."""

    def start(self, epochs: int, images: int, first_epoch: int) -> None:
        pass

    def batch(self, epoch: int, seen: int, measured: Mapping[str, float], images_per_second: float) -> None:
        pass

    def epoch(self, row: Mapping[str, Any]) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def stop(self) -> None:
        pass


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


class PlainReporter(SilentReporter):
    """One line an epoch, for logs."""

    def start(self, epochs: int, images: int, first_epoch: int) -> None:
        self._epochs = epochs
        self._first = first_epoch
        self._started = time.monotonic()

    def epoch(self, row: Mapping[str, Any]) -> None:
        done = row["epoch"] - self._first
        left = (time.monotonic() - self._started) / done * (self._epochs - row["epoch"])
        values = [f"loss {row['train_loss']:.4f}"]
        for name, label in (
            ("train_accuracy", "accuracy"),
            ("validation_accuracy", "validation"),
            ("validation_mean_iou", "mean IoU"),
        ):
            if name in row:
                values.append(f"{label} {100 * row[name]:.2f} %")
        if "validation_loss" in row and "validation_accuracy" not in row:
            values.append(f"validation loss {row['validation_loss']:.4f}")
        self.say(
            f"epoch {row['epoch']}/{self._epochs}  {'  '.join(values)}  "
            f"{row['images_per_second']:,.0f} images/s  {_clock(left)} left"
        )

    def say(self, message: str) -> None:
        print(message, flush=True)


class RichReporter(SilentReporter):
    """A progress bar over the whole run: epoch, loss, accuracy, images a second, time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._progress: Any = None

    def start(self, epochs: int, images: int, first_epoch: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs, self._images = epochs, images
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[measured]}"),
            TextColumn("{task.fields[rate]:,.0f} images/s"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            expand=True,
        )
        self._task = self._progress.add_task(
            "train",
            total=epochs * images or None,
            completed=first_epoch * images,
            epoch=first_epoch + 1,
            epochs=epochs,
            measured="loss -",
            rate=0.0,
        )
        self._progress.start()

    def batch(self, epoch: int, seen: int, measured: Mapping[str, float], images_per_second: float) -> None:
        self._progress.update(
            self._task,
            completed=(epoch - 1) * self._images + seen,
            epoch=epoch,
            measured="  ".join(
                f"{name} {100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.4f}"
                for name, value in measured.items()
            ),
            rate=images_per_second,
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] == self._epochs:
            self._progress.update(self._task, completed=self._epochs * self._images)

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()


class Progress(Callback):
    """Tells a reporter what the loop does."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def on_train_begin(self, run: Loop) -> None:
        images = len(getattr(run.loader, "dataset", ()))
        self.reporter.start(run.epochs, images, run.history.epochs)

    def on_batch_end(self, run: Loop) -> None:
        self.reporter.batch(run.epoch, run.seen, run.measured, run.images_per_second)

    def on_epoch_end(self, run: Loop) -> None:
        self.reporter.epoch(run.history.rows[-1])

    def on_train_end(self, run: Loop) -> None:
        self.reporter.stop()


def choose_reporter(quiet: bool = False) -> Reporter:
    """Silence if asked for; the bar where stdout is a terminal, rich is there and CI is not set."""
    if quiet:
        return SilentReporter()
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if in_ci or not sys.stdout.isatty():
        return PlainReporter()
    if importlib.util.find_spec("rich") is None:
        plain = PlainReporter()
        plain.say(f"rich is not installed, so no progress bar: {INSTALL_HINT}")
        return plain
    return RichReporter()
