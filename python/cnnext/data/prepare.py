"""The native kernels that prepare images (csrc/cpu/augment.cpp), as the transforms use them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C
from .checks import check_images

__all__ = ["channel_means", "normalisation", "prepared"]


def prepared(
    images: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    color: np.ndarray | None = None,
    erase: np.ndarray | None = None,
    erase_value: np.ndarray | None = None,
    size: tuple[int, int] = (0, 0),
    bilinear: bool = True,
    clamp: bool = False,
    scale: float | None = None,
) -> np.ndarray:
    """images (N, C, H, W) as float32 (N, C, *size), threaded; the input is never written to.

    Args:
        affine: (N, 2, 3): pixel (p, q) of the result is read at the row and column ``affine @ (p, q, 1)``,
            bilinearly or from the nearest pixel; 0 outside.
        color: (N or 1, C, 2), a factor and a term for each channel, or (N or 1, C, C + 1), a matrix with its
            terms; then `clamp` to 0..1.
        erase: (N, R, 4) rectangles top, left, height, width, filled with `erase_value` (C,) or 0.
        size: of the result; (0, 0) keeps the images' own.
        scale: what pixels are multiplied by first; without one 1/255 for uint8, else 1.
    """
    check_images(images)
    if scale is None:
        scale = 1 / 255 if images.dtype == np.uint8 else 1.0
    if images.dtype not in (np.uint8, np.float32):
        images = images.astype(np.float32)

    def as_dtype(array: np.ndarray | None, dtype: Any) -> np.ndarray | None:
        return None if array is None else np.asarray(array, dtype)

    return _C.augment(
        images,
        as_dtype(affine, np.float64),
        as_dtype(color, np.float32),
        as_dtype(erase, np.int64),
        as_dtype(erase_value, np.float32),
        *size,
        bilinear,
        clamp,
        scale,
    )


def channel_means(images: np.ndarray) -> np.ndarray:
    """(N, C) float32, of float32 images."""
    return _C.adaptive_avg_pool2d(images, 1, None).reshape(images.shape[:2])


def normalisation(mean: Any, std: Any, channels: int) -> np.ndarray:
    """The `color` that makes ``(x - mean) / std``; mean and std are a number, or one a channel."""
    pair = [np.broadcast_to(np.asarray(value, np.float64), channels) for value in (mean, std)]
    return np.stack([1 / pair[1], -pair[0] / pair[1]], axis=1)[None].astype(np.float32)
