"""Random changes to a whole batch at once: ``transform(images, generator) -> images``.

Images are float32 (N, C, H, W) with values in 0..1, and the result is a new array: the input is
never written to. Every image of the batch draws its own parameters. What moves in from outside
the picture is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["ColorJitter", "Compose", "RandomAffine", "RandomCrop", "RandomHorizontalFlip", "RandomTranslate"]


class Compose:
    """Applies transforms one after another (torchvision's `Compose`)."""

    def __init__(self, transforms: list[Callable[[np.ndarray, np.random.Generator], np.ndarray]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, rng)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class RandomCrop:
    """A window of size x size at a random place of the picture padded by `padding` zeros on each side."""

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        if min(self.size) < 1:
            raise ValueError(f"size is {size}; the rule is size >= 1")
        if padding < 0:
            raise ValueError(f"padding is {padding}; the rule is padding >= 0")
        self.padding = padding

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, height, width = images.shape
        high = (height + 2 * self.padding - self.size[0], width + 2 * self.padding - self.size[1])
        if min(high) < 0:
            raise ValueError(
                f"size is {self.size}; the rule is a window inside {height}x{width} padded by {self.padding}"
            )
        pad = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), (0, 0), pad, pad))
        top, left = (rng.integers(0, bound + 1, n) for bound in high)
        rows = top[:, None, None] + np.arange(self.size[0])[:, None]
        columns = left[:, None, None] + np.arange(self.size[1])
        # The slice between index arrays moves the channels to the end.
        return padded[np.arange(n)[:, None, None], :, rows, columns].transpose(0, 3, 1, 2)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomTranslate:
    """Moves each image by up to `pixels` whole pixels in each direction."""

    def __init__(self, pixels: int) -> None:
        if pixels < 0:
            raise ValueError(f"pixels is {pixels}; the rule is pixels >= 0")
        self.pixels = pixels

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return RandomCrop(images.shape[2:], self.pixels)(images, rng)

    def __repr__(self) -> str:
        return f"RandomTranslate({self.pixels})"


class RandomAffine:
    """Rotation, scaling and translation about the centre, sampled bilinearly.

    Args:
        degrees: rotation drawn from -degrees..degrees.
        translate: shift drawn from -translate..translate pixels, fractions included, on each axis.
        scale: (smallest, largest) factor.
    """

    def __init__(
        self, degrees: float = 0.0, translate: float = 0.0, scale: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        if degrees < 0 or translate < 0:
            raise ValueError(f"degrees is {degrees}, translate is {translate}; the rule is >= 0")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale is {scale}; the rule is 0 < smallest <= largest")
        self.degrees = degrees
        self.translate = translate
        self.scale = scale

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, height, width = images.shape
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))
        factor = rng.uniform(*self.scale, n)
        shift = rng.uniform(-self.translate, self.translate, (2, n))
        # Output pixels looked up in the input: the inverse map, about the centre.
        cosine, sine = (f(angle) / factor for f in (np.cos, np.sin))
        centre = ((height - 1) / 2, (width - 1) / 2)
        y = (np.arange(height) - centre[0])[None, :, None] - shift[0][:, None, None]
        x = (np.arange(width) - centre[1])[None, None, :] - shift[1][:, None, None]
        cosine, sine = cosine[:, None, None], sine[:, None, None]
        return _bilinear(images, cosine * y - sine * x + centre[0], sine * y + cosine * x + centre[1])

    def __repr__(self) -> str:
        return f"RandomAffine(degrees={self.degrees}, translate={self.translate}, scale={self.scale})"


def _bilinear(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """images (N, C, H, W) read at fractional rows y and columns x, both (N, H, W); 0 outside."""
    n, channels, height, width = images.shape
    # One row and column of zeros before, two after: a clipped coordinate reads zeros only.
    padded = np.pad(images, ((0, 0), (0, 0), (1, 2), (1, 2))).reshape(n, channels, (height + 3) * (width + 3))
    y = np.clip(y, -1, height) + 1
    x = np.clip(x, -1, width) + 1
    row, column = y.astype(np.intp), x.astype(np.intp)
    down, right = (y - row).astype(np.float32), (x - column).astype(np.float32)
    corner = (row * (width + 3) + column).reshape(n, 1, height * width)

    def read(offset: int) -> np.ndarray:
        return np.take_along_axis(padded, corner + offset, axis=2).reshape(images.shape)

    down, right = down[:, None], right[:, None]
    upper = read(0) * (1 - right) + read(1) * right
    lower = read(width + 3) * (1 - right) + read(width + 4) * right
    return upper * (1 - down) + lower * down


class RandomHorizontalFlip:
    """Mirrors each image left to right with probability p. Not for digits: a mirrored 2 is no digit."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; the rule is 0 <= p <= 1")
        self.p = p

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        chosen = rng.random(len(images)) < self.p
        return np.where(chosen[:, None, None, None], images[..., ::-1], images)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p})"


class ColorJitter:
    """Scales each image's brightness, then its contrast about its own mean; the result stays in 0..1.

    Args:
        brightness: factor drawn from 1 - brightness..1 + brightness.
        contrast: factor drawn from 1 - contrast..1 + contrast.
    """

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0) -> None:
        for name, value in (("brightness", brightness), ("contrast", contrast)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; the rule is 0 <= {name} <= 1")
        self.brightness = brightness
        self.contrast = contrast

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape = (len(images), 1, 1, 1)
        bright = rng.uniform(1 - self.brightness, 1 + self.brightness, shape).astype(np.float32)
        contrast = rng.uniform(1 - self.contrast, 1 + self.contrast, shape).astype(np.float32)
        images = images * bright
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        return np.clip((images - mean) * contrast + mean, 0, 1)

    def __repr__(self) -> str:
        return f"ColorJitter(brightness={self.brightness}, contrast={self.contrast})"
