"""One whole run: data, training, the single look at the test images, and the files it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import Tensor, data, manual_seed, models, nn, no_grad
from ..devices import current, import_cupy, parse_device
from ..distributed import DistributedError, Group, init
from .callbacks import Callback
from .config import TrainConfig
from .engine import BEST, LAST, Trainer
from .loop import mixed_precision
from .metrics import confusion
from .progress import INSTALL_HINT, Reporter, SilentReporter
from .store import RunError, RunFolder, load_state
from .tasks import load_data

__all__ = ["Result", "run"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ended with; `best_epoch` is the epoch whose weights were tested and kept.

    rank: of the process, where several trained: only the first, 0, wrote files and tested.
    """

    folder: RunFolder
    best_epoch: int
    test_loss: float
    test_accuracy: float
    confusion: np.ndarray
    test_mean_iou: float | None = None
    rank: int = 0


def run(
    config: TrainConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    plots: bool = True,
    reporter: Reporter | None = None,
    device: str = "cpu",
    save_every: int | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> Result:
    """Trains by `config` and tests the chosen model once.

    A tenth of the training images is held out to choose the epoch by; the test images are looked at
    after training only. Under torchrun or mpirun all processes train together (docs/SCALING.md).

    Args:
        config: see `TrainConfig`.
        data_dir: the folder of the data set's files.
        out: the run's folder; without it ``./runs/<dataset>-<number>``, the first that is free.
        resume: go on from the state in `out`.
        plots: also draw training curves, confusion matrix and first-layer filters, of a segmentation input,
            truth and prediction (matplotlib).
        reporter: told what happens; silence without one.
        device: where to compute: "cpu", "cuda" (CuPy's current device) or "cuda:N".
        save_every: also save the state every so many steps within an epoch.
        callbacks: told what the loop does.

    Raises:
        DataError: the data cannot be read.
        RunError: there is no such device or no bfloat16 here, the network does not take the images, the loss
            is no finite number, or a file cannot be written.
    """
    group = _joined_group()
    reporter = reporter or SilentReporter()
    device = _checked_device(device, config.amp)
    if importlib.util.find_spec("safetensors") is None:
        raise RunError(f"checkpoints need safetensors: {INSTALL_HINT}")
    plots = plots and not group.rank
    if plots and importlib.util.find_spec("matplotlib") is None:
        reporter.say(f"matplotlib is not installed, so no plots: {INSTALL_HINT}")
        plots = False
    parts = load_data(config, data_dir)
    if parts[0].note and not group.rank:
        reporter.say(parts[0].note)
    manual_seed(config.seed)
    model = _fitting_model(config, parts[0])
    if group.rank:
        return _run_beside(model, config, parts, device, group, Path(out) / LAST if resume and out else None)
    folder = RunFolder.numbered("runs", config.dataset) if out is None else RunFolder(out)
    try:
        with current(device):
            options = (reporter, device, save_every, callbacks, group)
            with _begun():
                trainer = Trainer(model, config, *parts[:2], folder, *options)
            return _run(trainer, parts, resume, plots, reporter)
    finally:
        folder.remove_if_empty()


def _joined_group() -> Group:
    try:
        return init()
    except (DistributedError, ImportError) as error:
        raise RunError(str(error)) from None


@contextlib.contextmanager
def _begun() -> Iterator[None]:
    """What keeps a run from beginning is the run's error."""
    try:
        yield
    except (DistributedError, ValueError) as error:
        raise RunError(f"the run cannot begin: {error}") from error


def _leave(trainer: Trainer, group: Group) -> None:
    try:
        group.leave()
    except DistributedError as error:
        raise RunError(trainer.with_left(error)) from error


def _run_beside(
    model: nn.Module,
    config: TrainConfig,
    parts: tuple[data.ImageSet, ...],
    device: str,
    group: Group,
    resumed: Path | None,
) -> Result:
    """A process that is not the first: it trains, and leaves nothing."""
    with _aside(resumed) as folder, current(device):
        with _begun():
            trainer = Trainer(model, config, *parts[:2], folder, None, device, group=group)
        if resumed is not None:
            trainer.resume()
        trainer.run()
        _leave(trainer, group)
        nothing = np.zeros((0, 0), np.int64)
        return Result(folder, trainer.best_epoch, math.nan, math.nan, nothing, rank=group.rank)


@contextlib.contextmanager
def _aside(resumed: Path | None) -> Iterator[RunFolder]:
    """A folder that goes with its files; errors name the one that was copied instead."""
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(path)
        if resumed is not None:
            try:
                shutil.copy(resumed, folder.path / LAST)
            except OSError as error:
                raise RunError(f"{resumed}: {error.strerror or error}") from None
        try:
            yield folder
        except RunError as error:
            where = "a temporary folder" if resumed is None else str(resumed.parent)
            raise type(error)(str(error).replace(path, where)) from error


def _checked_device(device: str, amp: str) -> str:
    """What can be known before anything is written."""
    try:
        device = parse_device(device)
        if device != "cpu":
            import_cupy()
        mixed_precision(amp)
    except (ImportError, NotImplementedError, ValueError) as error:
        raise RunError(str(error)) from None
    return device


def _fitting_model(config: TrainConfig, images: data.ImageSet) -> nn.Module:
    """The configured network, for as many classes as the images have."""
    try:
        model = models.create(config.model, classes=images.classes)
    except ValueError as error:
        raise RunError(f"the model cannot be made: {error}") from None
    shape = images.images.shape[1:]
    try:
        with no_grad():
            found = tuple(model.eval()(Tensor(np.zeros((1, *shape), np.float32))).shape)
    except ValueError as error:
        raise RunError(f"{config.model} does not take images of shape {shape}: {error}") from None
    expected = (1, images.classes, *images.labels.shape[1:])
    if found != expected:
        raise RunError(f"{config.model} makes {found} of an image of shape {shape}, expected {expected}")
    return model


def _run(
    trainer: Trainer, parts: tuple[data.ImageSet, ...], resume: bool, plots: bool, reporter: Reporter
) -> Result:
    (fit, validation, test_images), folder = parts, trainer.folder
    if resume:
        trainer.resume()
    reporter.say(
        f"{test_images.name.removesuffix('/test')}: {len(fit):,} images to fit, {len(validation):,} to "
        f"choose the epoch by, {len(test_images):,} to test; into {folder.path}"
        f"{'' if trainer.device == 'cpu' else f', on {trainer.device}'}"
    )
    trainer.run()
    if trainer.loop.parallel is not None:
        _leave(trainer, trainer.loop.parallel.group)
    # From the file, so that what is tested is what was kept.
    trainer.model.load_state_dict(load_state(folder.path / BEST))
    test = trainer.evaluate(test_images)
    counts = confusion(test.predictions, test_images.labels, test_images.classes)
    result = Result(folder, trainer.best_epoch, test.loss, test.accuracy, counts, test.mean_iou)
    measured = {
        "test_set": test_images.name,
        "test_images": len(test_images),
        "best_epoch": result.best_epoch,
        "test_loss": result.test_loss,
        "test_accuracy": result.test_accuracy,
    }
    if test.mean_iou is not None:
        measured["test_mean_iou"] = test.mean_iou
    folder.write_json("result.json", measured)
    if plots:
        _draw(trainer, result, test_images, test.predictions)
    reporter.say(f"kept epoch {result.best_epoch} in {folder.path / BEST}")
    return result


def _draw(trainer: Trainer, result: Result, images: data.ImageSet, predictions: np.ndarray) -> None:
    from .. import viz

    names = trainer.loop.metadata["class_names"]
    first = next(p.detach().cpu().numpy() for p in trainer.model.parameters() if len(p.shape) == 4)
    figures = {
        "training-curves.png": viz.training_curves(trainer.history),
        "confusion-matrix.png": viz.confusion_matrix(result.confusion, names),
        "first-layer-filters.png": viz.filters(first),
    }
    if predictions.ndim > 1:
        figures["segmentation.png"] = viz.segmentation(images.images, images.labels, predictions, names)
    for name, figure in figures.items():
        result.folder.write(name, viz.to_png(figure))
