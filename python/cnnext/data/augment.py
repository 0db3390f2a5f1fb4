"""Random changes of where a batch's pixels lie: ``transform(images, generator) -> images``.

Images are float32 (N, C, H, W) with values in 0..1 (uint8 is taken as 0..255), and the result is a new
float32 array: the input is never written to. Every image of the batch draws its own parameters from the
generator, and nothing else is random, so the bits follow from its seed; the pixels are computed by native
code on all threads (`prepare`), whose number does not matter. What moves in from outside the picture is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import check_images, check_integer, check_number, check_range, check_share
from .prepare import prepared

__all__ = [
    "Compose",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomTranslate",
]


class Compose:
    """Applies transforms one after another (torchvision's `Compose`)."""

    def __init__(self, transforms: list[Callable[[np.ndarray, np.random.Generator], np.ndarray]]) -> None:
        self.transforms = list(transforms)
        for i, transform in enumerate(self.transforms):
            if not callable(transform):
                raise TypeError(f"transforms[{i}] is {transform!r}; the rule is a callable")

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, rng)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class RandomCrop:
    """A window of size x size at a random place of the picture padded by `padding` zeros on each side."""

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(sides) != 2:
            raise ValueError(f"size is {size}; the rule is one size, or (height, width)")
        self.size = tuple(check_integer("size", side, 1) for side in sides)
        self.padding = check_integer("padding", padding)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, height, width = check_images(images)
        high = (height + 2 * self.padding - self.size[0], width + 2 * self.padding - self.size[1])
        if min(high) < 0:
            raise ValueError(
                f"size is {self.size}; the rule is a window inside {height}x{width} padded by {self.padding}"
            )
        affine = _unmoved(n)
        for axis, bound in enumerate(high):
            affine[:, axis, 2] = rng.integers(0, bound + 1, n) - self.padding
        return prepared(images, affine=affine, size=self.size, bilinear=False)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomTranslate:
    """Moves each image by up to `pixels` whole pixels in each direction."""

    def __init__(self, pixels: int) -> None:
        self.pixels = check_integer("pixels", pixels)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return RandomCrop(check_images(images)[2:], self.pixels)(images, rng)

    def __repr__(self) -> str:
        return f"RandomTranslate({self.pixels})"


class RandomAffine:
    """Rotation, scaling and translation about the centre, sampled bilinearly.

    Args:
        degrees: rotation drawn from -degrees..degrees.
        translate: shift drawn from -translate..translate pixels, fractions included, on each axis
            (torchvision: shares of the size).
        scale: (smallest, largest) factor.
    """

    def __init__(
        self, degrees: float = 0.0, translate: float = 0.0, scale: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        for name, value in (("degrees", degrees), ("translate", translate)):
            check_number(name, value, f"a finite {name} >= 0", lambda v: v >= 0)
        self.degrees = degrees
        self.translate = translate
        self.scale = check_range("scale", scale, "0 < smallest <= largest", lambda low, high: 0 < low <= high)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n = check_images(images)[0]
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))
        factor = rng.uniform(*self.scale, n)
        shift = rng.uniform(-self.translate, self.translate, (2, n))
        return prepared(images, affine=_about_centre(images.shape, angle, factor, shift))

    def __repr__(self) -> str:
        return f"RandomAffine(degrees={self.degrees}, translate={self.translate}, scale={self.scale})"


class RandomRotation:
    """Rotation about the centre by an angle drawn from -degrees..degrees, or from (low, high)."""

    def __init__(self, degrees: float | tuple[float, float]) -> None:
        rule = "a number >= 0, or (low, high) with low <= high"
        if isinstance(degrees, (tuple, list)):
            self.degrees = check_range("degrees", degrees, rule, lambda low, high: low <= high)
        else:
            check_number("degrees", degrees, rule, lambda v: v >= 0)
            self.degrees = (-degrees, degrees)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n = check_images(images)[0]
        angle = np.deg2rad(rng.uniform(*self.degrees, n))
        return prepared(images, affine=_about_centre(images.shape, angle, np.ones(n), np.zeros((2, n))))

    def __repr__(self) -> str:
        return f"RandomRotation({self.degrees})"


class RandomHorizontalFlip:
    """Mirrors each image left to right with probability p. Not for digits: a mirrored 2 is no digit."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_share("p", p)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, _, width = check_images(images)
        affine = _unmoved(n)
        affine[rng.random(n) < self.p, 1, 1:] = -1, width - 1
        return prepared(images, affine=affine, bilinear=False)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p})"


def _unmoved(n: int) -> np.ndarray:
    """n maps (2, 3) that leave every pixel where it is."""
    return np.tile(np.eye(2, 3), (n, 1, 1))


def _about_centre(shape: Any, angle: np.ndarray, factor: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The maps from the result's pixels to the input's: the inverse of turn, zoom, then shift (2, N)."""
    cosine, sine = (f(angle) / factor for f in (np.cos, np.sin))
    matrix = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
    centre = (np.array(shape[2:]) - 1) / 2
    offset = centre - (matrix @ (centre + shift.T)[..., None])[..., 0]
    return np.concatenate([matrix, offset[..., None]], axis=2)
