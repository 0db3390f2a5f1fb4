"""The data sets of `cnnext train`: where their images come from, and what changes those of training."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import data
from ..data.datasets import parted
from ..data.folder import folder_splits
from .config import TrainConfig
from .segmentation import segment_digits

__all__ = ["augmentation", "described", "load_data", "needs_folder"]

Folder = str | os.PathLike[str]
_READERS: dict[str, Callable[[Any, Any], data.ImageSet]] = {
    "mnist": lambda folder, split: data.mnist(folder, split),
    "fashion-mnist": lambda folder, split: data.fashion_mnist(folder, split),
    "cifar10": lambda folder, split: data.cifar10(folder, split),
    "cifar100": lambda folder, split: data.cifar100(folder, split),
}
_TEST_EVERY = 5  # of a folder of images without a division of its own


def needs_folder(dataset: str) -> bool:
    """Whether its files are not part of the package."""
    return dataset not in ("digits", "segment-digits")


def load_data(
    config: TrainConfig, folder: Folder | None
) -> tuple[data.ImageSet, data.ImageSet, data.ImageSet]:
    """The images of `config.dataset` to fit, to choose the epoch by, and to test.

    Raises:
        DataError: they cannot be read, or there is no folder where one is needed, or one where none is.
    """
    if folder is not None and not needs_folder(config.dataset):
        raise data.DataError(f"{config.dataset} ships with cnnext; leave out {os.fspath(folder)}")
    if config.dataset == "segment-digits":
        return segment_digits(config)
    validation = None
    if config.dataset == "digits":
        train, test = data.digits("train"), data.digits("test")
    elif folder is None:
        raise data.DataError(f"{config.dataset} needs the folder of its files: --data-dir DIR")
    elif config.dataset == "folder":
        train, validation, test = _folder(folder, (config.size, config.size) if config.size else None)
    else:
        read = _READERS[config.dataset]
        train, test = read(folder, "train"), read(folder, "test")
    fit, validation = data.holdout(train) if validation is None else (train, validation)
    if not (len(fit) and len(validation) and len(test)):
        raise data.DataError(
            f"{train.name}: {len(train)} images to train and {len(test)} to test are too few"
        )
    return fit, validation, test


def _folder(
    folder: Folder, size: tuple[int, int] | None
) -> tuple[data.ImageSet, data.ImageSet | None, data.ImageSet]:
    """(train, val if there is one beside test, test) of its subfolders; val is the test set where there is no
    test. Else every fifth of each class to test."""
    splits = folder_splits(folder)
    if "train" not in splits:
        train, test = parted(data.image_folder(folder, None, size), _TEST_EVERY, "train", "test")
        return train, None, test
    train = data.image_folder(folder, "train", size)
    if "test" not in splits:
        return train, None, data.image_folder(folder, "val", size)
    validation = data.image_folder(folder, "val", size) if "val" in splits else None
    return train, validation, data.image_folder(folder, "test", size)


def augmentation(config: TrainConfig) -> Callable | None:
    """What a run does to its training images; a segmentation's canvases were made with it."""
    if config.dataset == "segment-digits":
        return None
    parts: list[Callable] = [data.RandomHorizontalFlip()] if config.flip else []
    parts += [data.RandomTranslate(config.crop)] if config.crop else []
    if config.rotate or config.shift or config.zoom:
        parts.append(data.RandomAffine(config.rotate, config.shift, (1 - config.zoom, 1 + config.zoom)))
    return parts[0] if len(parts) == 1 else data.Compose(parts) if parts else None


def described(config: TrainConfig, images: data.ImageSet) -> dict[str, Any]:
    """What a checkpoint tells of its network, so that it can be made and fed again."""
    return {
        "dataset": config.dataset,
        "model": config.model,
        "classes": images.classes,
        "class_names": list(images.class_names or map(str, range(images.classes))),
        "input": list(images.images.shape[1:]),
        "mean": np.ravel(images.mean).tolist(),
        "std": np.ravel(images.std).tolist(),
    }
