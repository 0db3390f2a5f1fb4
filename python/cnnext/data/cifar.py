"""CIFAR-10 and CIFAR-100, read from their binary version (Krizhevsky 2009)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from .archives import find_archive, unpack
from .datasets import ImageSet, Split, check_split, data_folder
from .fetch import Remote, fetch
from .idx import DataError

__all__ = ["cifar10", "cifar100"]

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MAX_RECORDS = 100_000  # in one file; the largest has 50,000
_ARCHIVE_LIMIT = 1 << 28  # 185 million bytes unpacked
_SITE = "https://www.cs.toronto.edu/~kriz"
_CIFAR10 = Remote(f"{_SITE}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
_CIFAR100 = Remote(f"{_SITE}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")
_FILES10 = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_FILES100 = {"train": ("train.bin",), "test": ("test.bin",)}
# What tells the pickled version: its files have the same names without .bin.
_PICKLED10 = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1")
_PICKLED100 = ("cifar-100-python.tar.gz", "cifar-100-python", "train")


def cifar10(directory: str | os.PathLike[str], split: Split = "train", *, download: bool = False) -> ImageSet:
    """CIFAR-10 from its binary version: ``data_batch_1.bin`` to ``_5.bin`` and ``test_batch.bin``.

    The files are looked for in `directory` and in its subfolder ``cifar-10-batches-bin``, into which
    ``cifar-10-binary.tar.gz`` (or ``.tar``) in `directory` is unpacked where they are missing.

    Args:
        directory: the folder that holds the files, the subfolder or the archive.
        split: "train" (50,000 images) or "test" (10,000).
        download: fetch the archive (162 MB) where all of that is missing, with its checksum.

    Returns:
        An `ImageSet` of uint8 images (N, 3, 32, 32), RGB.

    Raises:
        DataError: a file is missing or damaged, a label is out of range, it cannot be downloaded, or there is
            the version for Python, which is pickled: nothing is unpickled.
    """
    check_split(split)
    names = (*_FILES10["train"], *_FILES10["test"], "batches.meta.txt")
    folder = _folder(directory, "cifar-10-batches-bin", names, _CIFAR10, _PICKLED10, download)
    parts = [_records(folder / name, 1, 0, 10) for name in _FILES10[split]]
    return ImageSet(
        np.concatenate([images for images, _ in parts]),
        np.concatenate([labels for _, labels in parts]),
        f"cifar10/{split}",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        class_names=_class_names(folder / "batches.meta.txt", 10),
    )


def cifar100(
    directory: str | os.PathLike[str],
    split: Split = "train",
    labels: Literal["fine", "coarse"] = "fine",
    *,
    download: bool = False,
) -> ImageSet:
    """CIFAR-100 from its binary version: ``train.bin`` and ``test.bin``.

    As `cifar10`, with the subfolder ``cifar-100-binary`` and the archive ``cifar-100-binary.tar.gz``.

    Args:
        labels: "fine", the 100 classes, or "coarse", the 20 superclasses.
    """
    check_split(split)
    if labels not in ("fine", "coarse"):
        raise ValueError(f"labels is {labels!r}; the rule is 'fine' or 'coarse'")
    classes, column = (100, 1) if labels == "fine" else (20, 0)
    names = ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")
    folder = _folder(directory, "cifar-100-binary", names, _CIFAR100, _PICKLED100, download)
    images, chosen = _records(folder / _FILES100[split][0], 2, column, classes)
    return ImageSet(
        images,
        chosen,
        f"cifar100/{split}",
        classes=classes,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=_class_names(folder / f"{labels}_label_names.txt", classes),
    )


def _folder(
    directory: str | os.PathLike[str],
    inside: str,
    names: tuple[str, ...],
    remote: Remote,
    pickled: tuple[str, ...],
    download: bool,
) -> Path:
    """Where the .bin files are, after a download and unpacking as needed."""
    folder = data_folder(directory, create=download)
    first = names[0]
    for place in (folder, folder / inside):
        if any((place / name).exists() for name in names if name.endswith(".bin")):
            return place
    archive = find_archive(folder, remote.name.removesuffix(".tar.gz"))
    if archive is None and download:
        archive = fetch(remote, folder)
    if archive is not None:
        unpack(archive, folder / inside, limit=_ARCHIVE_LIMIT, keep=names)
        return folder / inside
    for name in pickled:
        if (folder / name).exists():
            raise DataError(
                f"{folder / name}: the version for Python is pickled, and nothing is unpickled here; "
                f"the binary version is {remote.name}"
            )
    raise DataError(f"{folder}: no {first}, no folder {inside}, no {remote.name}; download=True fetches it")


def _records(path: Path, label_bytes: int, column: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and the labels in that byte of each record; the file's size says how many there are."""
    length = label_bytes + _PIXELS
    try:
        if not path.is_file():
            raise DataError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        size = path.stat().st_size
        if size == 0 or size % length:
            raise DataError(f"{path}: {size} bytes are not a whole number of records of {length} bytes")
        if size > _MAX_RECORDS * length:
            raise DataError(f"{path}: {size} bytes, more than {_MAX_RECORDS} records of {length} bytes")
        records = np.fromfile(path, np.uint8, size).reshape(-1, length)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    labels = records[:, column].astype(np.int64)
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        raise DataError(
            f"{path}: image {wrong[0]} has the label {labels[wrong[0]]}, outside 0..{classes - 1}"
        )
    return records[:, label_bytes:].reshape(-1, *_SHAPE), labels


def _class_names(path: Path, classes: int) -> tuple[str, ...] | None:
    """A line a class; None where the file is missing or something else."""
    if not path.is_file() or path.stat().st_size > 1 << 16:
        return None
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    return names if len(names) == classes else None
