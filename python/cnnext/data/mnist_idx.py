"""MNIST and Fashion-MNIST, read from their original IDX files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from .archives import find_archive, unpack
from .datasets import ImageSet, Split, check_split, data_folder
from .fetch import Remote, fetch
from .idx import DataError, read_idx

__all__ = ["fashion_mnist", "mnist"]

_STEMS = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3", "labels-idx1")
_ARCHIVE_LIMIT = 1 << 27  # the four files have 55 million bytes unpacked


def _remotes(base: str, *md5s: str) -> dict[str, Remote]:
    stems = [f"{part}-{kind}" for part in _STEMS.values() for kind in _KINDS]
    return {s: Remote(f"{base}/{s}-ubyte.gz", md5) for s, md5 in zip(stems, md5s, strict=True)}


_MNIST = _remotes(
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_FASHION = _remotes(
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
_FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist(directory: str | os.PathLike[str], split: Split = "train", *, download: bool = False) -> ImageSet:
    """MNIST, or a set in its form (28x28, ten classes), from its original IDX files in `directory`.

    Files are found under their usual names, ``train-images-idx3-ubyte`` and
    ``t10k-images-idx3-ubyte`` with their labels, also with a dot (``train-images.idx3-ubyte``) and
    also with ``.gz``; without any, ``mnist.tar`` or ``mnist.tar.gz`` there is unpacked. Where neither
    training file is there, the first four fifths of the t10k images (8,000 of 10,000) are the training
    images and the rest the test images; `note` says so.

    Args:
        directory: the folder that holds the files.
        split: "train" or "test".
        download: fetch what is missing of the four files into `directory`, each with its checksum.

    Returns:
        An `ImageSet` of uint8 images (N, 1, 28, 28).

    Raises:
        DataError: a file is missing, damaged, or does not fit its partner; it cannot be downloaded.
    """
    check_split(split)
    folder = _folder(directory, "mnist", _MNIST if download else {})
    if any(_find_idx(folder, f"train-{kind}") for kind in _KINDS):
        return _read_pair(folder, _STEMS[split], f"mnist/{split}")
    whole = _read_pair(folder, _STEMS["test"], "mnist-t10k")
    first = len(whole) * 4 // 5
    whole = dataclasses.replace(
        whole,
        note=f"no training files in {folder}: training on the first {first:,} images of t10k, "
        f"testing on the last {len(whole) - first:,}",
    )
    part = slice(None, first) if split == "train" else slice(first, None)
    return whole.subset(np.arange(len(whole))[part], f"mnist-t10k/{split}")


def fashion_mnist(
    directory: str | os.PathLike[str], split: Split = "train", *, download: bool = False
) -> ImageSet:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 pictures of clothes, in MNIST's form and files.

    Files, arguments, result and errors are `mnist`'s (the archive: ``fashion-mnist.tar.gz``), but there is no
    split of the t10k images: training images need the training files.
    """
    check_split(split)
    folder = _folder(directory, "fashion-mnist", _FASHION if download else {})
    images = _read_pair(folder, _STEMS[split], f"fashion-mnist/{split}")
    return dataclasses.replace(images, mean=0.2860, std=0.3530, class_names=_FASHION_NAMES)


def _folder(directory: str | os.PathLike[str], stem: str, remotes: dict[str, Remote]) -> Path:
    """Where the files are: `directory`, after downloads, or the folder that its archive was unpacked to."""
    folder = data_folder(directory, create=bool(remotes))
    for file_stem, remote in remotes.items():
        if _find_idx(folder, file_stem) is None:
            fetch(remote, folder)
    if any(_find_idx(folder, f"{part}-{kind}") for part in _STEMS.values() for kind in _KINDS):
        return folder
    archive, inside = find_archive(folder, stem), folder / stem
    if archive is None and not inside.is_dir():
        return folder
    if not inside.exists():
        names = {name for part in _STEMS.values() for kind in _KINDS for name in _names(f"{part}-{kind}")}
        unpack(archive, inside, limit=_ARCHIVE_LIMIT, keep=names)
    return inside


def _names(stem: str) -> tuple[str, ...]:
    """`stem` is such as "t10k-images-idx3"; the hyphen before idx may be a dot."""
    dotted = stem.replace("-idx", ".idx")
    return (f"{stem}-ubyte", f"{stem}-ubyte.gz", f"{dotted}-ubyte", f"{dotted}-ubyte.gz")


def _find_idx(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in _names(stem) if (folder / name).exists()), None)


def _read_pair(folder: Path, stem: str, name: str) -> ImageSet:
    paths = {}
    for kind in _KINDS:
        path = _find_idx(folder, f"{stem}-{kind}")
        if path is None:
            raise DataError(f"{folder}: no {stem}-{kind}-ubyte or {stem}-{kind}-ubyte.gz")
        paths[kind] = path
    # Labels first: they are small, and their count bounds what the images may ask for.
    labels = read_idx(paths["labels-idx1"], shape=(None,), max_bytes=10_000_000)
    images = read_idx(paths["images-idx3"], shape=(None, 28, 28), max_bytes=max(1, len(labels)) * 28 * 28 * 2)
    if len(images) != len(labels):
        raise DataError(
            f"{paths['images-idx3']}: {len(images)} images, "
            f"but {paths['labels-idx1'].name} has {len(labels)} labels"
        )
    if len(labels) < 10:
        raise DataError(f"{paths['labels-idx1']}: {len(labels)} labels are too few to train on")
    if labels.max() > 9:
        raise DataError(f"{paths['labels-idx1']}: label {labels.max()} is outside 0..9")
    return ImageSet(images[:, None], labels.astype(np.int64), name, mean=0.1307, std=0.3081)
