"""One whole run: data, training, the single look at the test images, and the files it leaves."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np

from .. import data, manual_seed, models
from ..devices import current, import_cupy, parse_device
from .config import TrainConfig
from .engine import BEST, LAST, Evaluation, Trainer, mixed_precision
from .progress import INSTALL_HINT, Reporter, SilentReporter
from .store import RunError, RunFolder, load_state

__all__ = ["Result", "run", "saved_config"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ended with; `best_epoch` is the epoch whose weights were tested and kept."""

    folder: RunFolder
    best_epoch: int
    test_loss: float
    test_accuracy: float
    confusion: np.ndarray


def load_data(dataset: str, data_dir: str | os.PathLike[str] | None) -> tuple[data.ImageSet, data.ImageSet]:
    """(training, test) images of a dataset by its name; `data_dir` is where mnist's files are."""
    if dataset == "digits":
        return data.digits("train"), data.digits("test")
    if data_dir is None:
        raise data.DataError(f"{dataset} needs the folder of its files: --data-dir DIR")
    return data.mnist(data_dir, "train"), data.mnist(data_dir, "test")


def saved_config(folder: str | os.PathLike[str]) -> TrainConfig:
    """The configuration of the run in `folder`, to resume it with.

    Raises:
        RunError: there is no run that can be resumed.
    """
    saved = Path(folder) / LAST
    try:
        return TrainConfig(**load_state(saved)["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{saved}: not the state of a run ({error})") from None


def run(
    config: TrainConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    plots: bool = True,
    reporter: Reporter | None = None,
    device: str = "cpu",
) -> Result:
    """Trains by `config` and tests the chosen model once.

    A tenth of the training images is held out to choose the epoch by; the test images are looked at
    after training only.

    Args:
        config: see `TrainConfig`.
        data_dir: the folder of MNIST's files.
        out: the run's folder; without it ``./runs/<dataset>-<number>``, the first that is free.
        resume: go on from the state in `out`.
        plots: also draw training curves, confusion matrix and first-layer filters (matplotlib).
        reporter: told what happens; silence without one.
        device: where to compute: "cpu", "cuda" (CuPy's current device) or "cuda:N".

    Raises:
        DataError: the data cannot be read.
        RunError: there is no such device or no bfloat16 here, the loss is no finite number, or a file cannot
            be written.
    """
    reporter = reporter or SilentReporter()
    device = _checked_device(device, config.amp)
    if importlib.util.find_spec("safetensors") is None:
        raise RunError(f"checkpoints need safetensors: {INSTALL_HINT}")
    if plots and importlib.util.find_spec("matplotlib") is None:
        reporter.say(f"matplotlib is not installed, so no plots: {INSTALL_HINT}")
        plots = False
    train_images, test_images = load_data(config.dataset, data_dir)
    if train_images.note:
        reporter.say(train_images.note)
    folder = RunFolder.numbered("runs", config.dataset) if out is None else RunFolder(out)
    try:
        with current(device):
            return _run(config, train_images, test_images, folder, resume, plots, reporter, device)
    finally:
        folder.remove_if_empty()


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


def _run(
    config: TrainConfig,
    train_images: data.ImageSet,
    test_images: data.ImageSet,
    folder: RunFolder,
    resume: bool,
    plots: bool,
    reporter: Reporter,
    device: str,
) -> Result:
    fit, validation = data.holdout(train_images)
    manual_seed(config.seed)
    model = models.create(config.model)
    trainer = Trainer(model, config, fit, validation, folder, reporter, device)
    if resume:
        trainer.resume()
    reporter.say(
        f"{train_images.name}: {len(fit):,} images to fit, {len(validation):,} to choose the epoch by, "
        f"{len(test_images):,} to test; into {folder.path}{'' if device == 'cpu' else f', on {device}'}"
    )
    trainer.run()
    # From the file, so that what is tested is what was kept.
    model.load_state_dict(load_state(folder.path / BEST))
    test = trainer.evaluate(test_images)
    result = Result(folder, trainer.best_epoch, test.loss, test.accuracy, _confusion(test_images, test))
    folder.write_json(
        "result.json",
        {
            "test_set": test_images.name,
            "test_images": len(test_images),
            "best_epoch": result.best_epoch,
            "test_loss": result.test_loss,
            "test_accuracy": result.test_accuracy,
        },
    )
    if plots:
        _draw(trainer, result)
    reporter.say(f"kept epoch {result.best_epoch} in {folder.path / BEST}")
    return result


def _confusion(images: data.ImageSet, test: Evaluation) -> np.ndarray:
    """(classes, classes) counts: row = true class, column = predicted class."""
    cells = images.labels * images.classes + test.predictions
    return np.bincount(cells, minlength=images.classes**2).reshape(images.classes, images.classes)


def _draw(trainer: Trainer, result: Result) -> None:
    from .. import viz

    first = next(p.detach().cpu().numpy() for p in trainer.model.parameters() if len(p.shape) == 4)
    figures = {
        "training-curves.png": viz.training_curves(trainer.history),
        "confusion-matrix.png": viz.confusion_matrix(result.confusion),
        "first-layer-filters.png": viz.filters(first),
    }
    for name, figure in figures.items():
        result.folder.write(name, viz.to_png(figure))
