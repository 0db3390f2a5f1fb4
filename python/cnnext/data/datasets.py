"""What an image set is, how one is split, and `digits`, which ships with the package."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from .checks import check_images, check_integer, check_number, check_values
from .idx import DataError
from .prepare import normalisation, prepared

__all__ = [
    "DIGITS_SPLIT",
    "ImageSet",
    "Split",
    "check_split",
    "data_folder",
    "digits",
    "holdout",
    "parted",
    "stratified_every",
]

DIGITS_SPLIT = "digits-v1"
_DIGITS_FILE = Path(__file__).parent / "assets" / "digits.npz"
_DIGITS_TEST_EVERY = 5

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
        mean, std: of the scaled training pixels, a number or one for each channel; a batch is
            ``(images / max_value - mean) / std``, see `normalised`.
        note: something that a user of this set should be told, or None.
        class_names: one for each class, or None where they are not known.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str = "images"
    classes: int = 10
    max_value: float = 255.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    note: str | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_images()
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

    def _check_images(self) -> None:
        """All but the labels."""
        channels = check_images(self.images)[1]
        check_integer("classes", self.classes, 1)
        check_number("max_value", self.max_value, "a finite number > 0", lambda value: value > 0)
        for name, value in (("mean", self.mean), ("std", self.std)):
            check_values(name, value, channels)
        if not np.all(np.asarray(self.std) > 0):
            raise ValueError(f"std is {self.std}; the rule is std > 0")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(f"class_names has {len(self.class_names)} names; the rule is {self.classes}")

    def __len__(self) -> int:
        return len(self.images)

    def normalised(self, images: np.ndarray, *, scaled: bool = False) -> np.ndarray:
        """A network's input for raw images (N, C, H, W) like these (`scaled`: already in 0..1), float32."""
        color = normalisation(self.mean, self.std, images.shape[1])
        return prepared(images, color=color, scale=1.0 if scaled else 1.0 / self.max_value)

    def subset(self, indices: np.ndarray, name: str) -> ImageSet:
        """The images at `indices` (integers or a boolean mask), under another name."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], name=name)


def check_split(split: str) -> None:
    """ValueError for other than "train" and "test"."""
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; the rule is 'train' or 'test'")


def data_folder(directory: str | os.PathLike[str], create: bool = False) -> Path:
    """`directory`, made if `create`; DataError where it is none."""
    folder = Path(directory)
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from None
    return folder


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
    return parted(images, every, "fit", "validation")


def parted(images: ImageSet, every: int, rest: str, part: str) -> tuple[ImageSet, ImageSet]:
    """(the rest, every `every`-th image of each class), which add these words to the set's name."""
    chosen = stratified_every(images.labels, every)
    return images.subset(~chosen, f"{images.name}/{rest}"), images.subset(chosen, f"{images.name}/{part}")


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
    return parted(everything, _DIGITS_TEST_EVERY, "train", "test")[split == "test"]
