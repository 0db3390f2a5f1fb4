"""The image sets: `digits`, which ships with the package, and `mnist`, read from its original files."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from .idx import DataError, read_idx

__all__ = ["DIGITS_SPLIT", "ImageSet", "digits", "holdout", "mnist", "stratified_every"]

DIGITS_SPLIT = "digits-v1"
_DIGITS_FILE = Path(__file__).parent / "assets" / "digits.npz"
_DIGITS_TEST_EVERY = 5
_MNIST_STEMS = {"train": "train", "test": "t10k"}

Split = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images and labels, with what turns raw pixels into a network's input.

    Attributes:
        images: (N, C, H, W), raw pixels from 0 to `max_value`, usually uint8.
        labels: (N,) int64, 0 <= label < classes.
        name: what the set is called, its split included.
        classes: number of classes.
        max_value: the pixel value that becomes 1.0.
        mean, std: of the scaled training pixels; a batch is ``(images / max_value - mean) / std``.
        note: something that a user of this set should be told, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str = "images"
    classes: int = 10
    max_value: float = 255.0
    mean: float = 0.0
    std: float = 1.0
    note: str | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"images has shape {self.images.shape}; the rule is (N, C, H, W)")
        if self.labels.shape != (len(self.images),):
            raise ValueError(
                f"labels has shape {self.labels.shape}; the rule is one label an image, ({len(self.images)},)"
            )
        if self.labels.dtype.kind not in "iu":
            raise TypeError(f"labels has dtype {self.labels.dtype}; the rule is an integer dtype")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise ValueError(
                f"labels span {self.labels.min()}..{self.labels.max()}; the rule is 0..{self.classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: np.ndarray, name: str) -> ImageSet:
        """The images at `indices` (integers or a boolean mask), under another name."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], name=name)


def stratified_every(labels: np.ndarray, every: int, offset: int = 0) -> np.ndarray:
    """A boolean mask of every `every`-th image of each class, in file order, from `offset` on.

    The images are ordered by class and, within a class, by position; positions ``offset``,
    ``offset + every``, ... of that order are taken. No random numbers, so the mask never changes.
    """
    if every < 2:
        raise ValueError(f"every is {every}; the rule is every >= 2")
    if not 0 <= offset < every:
        raise ValueError(f"offset is {offset}; the rule is 0 <= offset < every ({every})")
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(labels, kind="stable")[offset::every]] = True
    return mask


def holdout(images: ImageSet, every: int = 10) -> tuple[ImageSet, ImageSet]:
    """Splits a training set into (the part to fit, the part to choose models by): 1/`every` is held out."""
    held = stratified_every(images.labels, every)
    return images.subset(~held, f"{images.name}/fit"), images.subset(held, f"{images.name}/validation")


def digits(split: Split | Literal["all"] = "train") -> ImageSet:
    """The 1,797 handwritten 8x8 digits of UCI's optical-digits set; they ship with the package.

    The split is `digits-v1`: every fifth image of each class, in file order and beginning with the
    first (`stratified_every(labels, 5)`), is a test image: 360 test and 1,437 training images. The
    same 13 writers are on both sides, as in any random split of this file.

    Args:
        split: "train", "test" or "all".

    Returns:
        An `ImageSet` of uint8 images (N, 1, 8, 8), pixels 0..16.

    Source: E. Alpaydin and C. Kaynak, doi:10.24432/C50P49, CC BY 4.0 (assets/DIGITS-LICENSE.md).
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"split is {split!r}; the rule is 'train', 'test' or 'all'")
    try:
        with np.load(_DIGITS_FILE, allow_pickle=False) as arrays:
            images, labels = arrays["images"][:, None], arrays["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{_DIGITS_FILE}: the shipped digits cannot be read ({error})") from None
    # mean and std are those of the 1,437 training images.
    everything = ImageSet(images, labels, DIGITS_SPLIT, max_value=16.0, mean=0.3058, std=0.3762)
    if split == "all":
        return everything
    test = stratified_every(labels, _DIGITS_TEST_EVERY)
    return everything.subset(test if split == "test" else ~test, f"{DIGITS_SPLIT}/{split}")


def mnist(directory: str | os.PathLike[str], split: Split = "train") -> ImageSet:
    """MNIST, or a set in its form (28x28, ten classes), from its original IDX files in `directory`.

    Files are found under their usual names, ``train-images-idx3-ubyte`` and
    ``t10k-images-idx3-ubyte`` with their labels, also with a dot (``train-images.idx3-ubyte``) and
    also with ``.gz``. Where neither training file is there, the first four fifths of the t10k
    images (8,000 of 10,000) are the training images and the rest the test images; `note` says so.

    Args:
        directory: the folder that holds the files.
        split: "train" or "test".

    Returns:
        An `ImageSet` of uint8 images (N, 1, 28, 28).

    Raises:
        DataError: a file is missing, damaged, or does not fit its partner.
    """
    if split not in _MNIST_STEMS:
        raise ValueError(f"split is {split!r}; the rule is 'train' or 'test'")
    folder = Path(directory)
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if any(_find_idx(folder, f"train-{kind}") for kind in ("images-idx3", "labels-idx1")):
        return _read_mnist_pair(folder, _MNIST_STEMS[split], f"mnist/{split}")
    whole = _read_mnist_pair(folder, _MNIST_STEMS["test"], "mnist-t10k")
    first = len(whole) * 4 // 5
    whole = dataclasses.replace(
        whole,
        note=f"no training files in {folder}: training on the first {first:,} images of t10k, "
        f"testing on the last {len(whole) - first:,}",
    )
    part = slice(None, first) if split == "train" else slice(first, None)
    return whole.subset(np.arange(len(whole))[part], f"mnist-t10k/{split}")


def _find_idx(folder: Path, stem: str) -> Path | None:
    """`stem` is such as "t10k-images-idx3"; the hyphen before idx may be a dot."""
    dotted = stem.replace("-idx", ".idx")
    for name in (f"{stem}-ubyte", f"{stem}-ubyte.gz", f"{dotted}-ubyte", f"{dotted}-ubyte.gz"):
        if (folder / name).exists():
            return folder / name
    return None


def _read_mnist_pair(folder: Path, stem: str, name: str) -> ImageSet:
    paths = {}
    for kind in ("images-idx3", "labels-idx1"):
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
