"""The task of `cnnext train segment-digits`: a class for every pixel of canvases with digits on them."""

from __future__ import annotations

import dataclasses

import numpy as np

from .. import data
from .config import TrainConfig

__all__ = ["Canvases", "canvases", "segment_digits"]

_SIDE, _DIGIT = 32, 14  # of a canvas, and of a digit pasted on it
_INK = 0.4  # from here on a pixel of a digit belongs to it
_NOISE = 0.35
_MOST, _TRIES = 4, 12  # digits on a canvas, and places tried for them
_COUNTS = {"fit": 6000, "validation": 500, "test": 1000}


@dataclasses.dataclass(frozen=True)
class Canvases(data.ImageSet):
    """An ImageSet whose labels are of pixels: (N, H, W), 0 for the background, 1 + d for a digit d."""

    def __post_init__(self) -> None:
        self._check_images()
        expected = (len(self.images), *self.images.shape[2:])
        if self.labels.shape != expected:
            raise ValueError(f"labels has shape {self.labels.shape}; the rule is one a pixel, {expected}")


def canvases(
    digits: data.ImageSet, count: int, seed: int, name: str, transform: data.RandomAffine | None = None
) -> Canvases:
    """`count` noisy 32x32 canvases, each with one to four of the `digits` where they find room side by side.

    Args:
        digits: 8x8 images, drawn at random, enlarged to 14x14.
        seed: of everything random: the same arguments give the same bytes.
        name: of the set.
        transform: changes each digit before it is pasted.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(digits), (count, _MOST))
    ink = digits.images[chosen.ravel()].astype(np.float32) / np.float32(digits.max_value)
    large = _enlarged(ink if transform is None else transform(ink, rng)).reshape(count, _MOST, _DIGIT, _DIGIT)
    wanted = rng.integers(1, _MOST + 1, count)
    corners = rng.integers(0, _SIDE - _DIGIT + 1, (count, _TRIES, 2))
    pictures = rng.uniform(0, _NOISE, (count, _SIDE, _SIDE)).astype(np.float32)
    labels = np.zeros((count, _SIDE, _SIDE), np.int64)
    for i in range(count):
        for number, (top, left) in enumerate(_apart(corners[i].tolist(), wanted[i])):
            window = (i, slice(top, top + _DIGIT), slice(left, left + _DIGIT))
            digit = large[i, number]
            pictures[window] = np.maximum(pictures[window], digit)
            labels[window][digit >= _INK] = 1 + digits.labels[chosen[i, number]]
    pixels = np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)
    names = ("background", *map(str, range(10)))
    return Canvases(pixels[:, None], labels, name, classes=11, mean=0.25, std=0.22, class_names=names)


def segment_digits(config: TrainConfig) -> tuple[Canvases, Canvases, Canvases]:
    """Canvases to fit, to choose the epoch by, and to test, of digits that occur in one of them only."""
    fit, validation = data.holdout(data.digits("train"))
    zoom = (1 - config.zoom, 1 + config.zoom)
    parts = {
        "fit": (fit, data.RandomAffine(config.rotate, config.shift, zoom)),
        "validation": (validation, None),
        "test": (data.digits("test"), None),
    }
    made = []
    for number, (part, (digits, transform)) in enumerate(parts.items()):
        made.append(canvases(digits, _COUNTS[part], number, f"segment-digits/{part}", transform))
    return tuple(made)


def _apart(corners: list[list[int]], wanted: int) -> list[list[int]]:
    """Of these the first that do not overlap those before, `wanted` at most."""
    kept: list[list[int]] = []
    for top, left in corners:
        if len(kept) < wanted and all(max(abs(top - t), abs(left - l)) >= _DIGIT for t, l in kept):
            kept.append([top, left])
    return kept


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Images (N, 1, 8, 8) as (N, 14, 14), bilinear between the centres of the outermost pixels."""
    size = images.shape[-1]
    at = np.linspace(0, size - 1, _DIGIT)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(np.float32)
    return weights @ images[:, 0] @ weights.T
