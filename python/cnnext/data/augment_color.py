"""Random changes of a batch's colours and parts; the rules are `augment`'s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .checks import check_images, check_integer, check_range, check_share, check_values
from .prepare import channel_means, normalisation, prepared

__all__ = ["ColorJitter", "Cutout", "Normalize", "RandomErasing", "RandomGrayscale"]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # of NTSC; rows 2, 3 sum to 0
_ATTEMPTS = 10  # torchvision's, for a rectangle that fits


def _weights_of_grey(images: np.ndarray, what: str) -> np.ndarray:
    """(C,) weights that make an image grey; ValueError for other than one or three channels."""
    channels = check_images(images)[1]
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; {what} takes 1 (unchanged) or 3 (RGB)")
    return _LUMA if channels == 3 else np.ones(1)


class ColorJitter:
    """Brightness, contrast, saturation and hue of each image, in this order; the result is limited to 0..1.

    All four are linear, so that they are one 3x4 matrix an image, and only the end is limited (torchvision
    limits after each, in a random order). Contrast is about the image's mean grey. Saturation and hue are for
    three channels, RGB, and leave one as it is; hue turns the chroma of YIQ and keeps the luma (NVIDIA DALI's
    ColorTwist; torchvision turns HSV's hue).

    Args:
        brightness, contrast, saturation: factor drawn from 1 - value..1 + value, 0 <= value <= 1.
        hue: share of a full turn drawn from -hue..hue, 0 <= hue <= 0.5.
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        self.brightness = check_share("brightness", brightness)
        self.contrast = check_share("contrast", contrast)
        self.saturation = check_share("saturation", saturation)
        self.hue = check_share("hue", hue, 0.5)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, channels = check_images(images)[:2]
        images = prepared(images)
        bright, contrast, saturation = (
            rng.uniform(1 - value, 1 + value, n)
            for value in (self.brightness, self.contrast, self.saturation)
        )
        turn = 2 * np.pi * rng.uniform(-self.hue, self.hue, n)
        grey = _LUMA if channels == 3 else np.full(channels, 1 / channels)
        shift = (1 - contrast) * bright * (channel_means(images) @ grey)
        color = np.zeros((n, channels, 2))
        color[:, :, 0] = (bright * contrast)[:, None]
        color[:, :, 1] = shift[:, None]
        if self.saturation or self.hue:
            _weights_of_grey(images, "ColorJitter with saturation or hue")
            if channels == 3:
                mixed = _hue(turn) @ _saturation(saturation) * color[:, :1, :1]
                # Both keep greys, and the shift is one.
                color = np.concatenate([mixed, color[:, :, 1:]], axis=2)
        return prepared(images, color=color, clamp=True)

    def __repr__(self) -> str:
        return (
            f"ColorJitter(brightness={self.brightness}, contrast={self.contrast}, "
            f"saturation={self.saturation}, hue={self.hue})"
        )


def _saturation(factor: np.ndarray) -> np.ndarray:
    """(N, 3, 3): factor times the colour, the rest its grey."""
    factor = factor[:, None, None]
    return factor * np.eye(3) + (1 - factor) * _LUMA


def _hue(angle: np.ndarray) -> np.ndarray:
    """(N, 3, 3): I and Q turned by an angle in radians."""
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    return np.linalg.inv(_YIQ) @ turn @ _YIQ


class RandomGrayscale:
    """Each RGB image becomes grey, three equal channels, with probability p; one channel stays as it is."""

    def __init__(self, p: float = 0.1) -> None:
        self.p = check_share("p", p)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        grey = _weights_of_grey(images, "RandomGrayscale")
        chosen = rng.random(len(images)) < self.p
        matrix = np.where(chosen[:, None, None], grey, np.eye(len(grey)))
        return prepared(images, color=np.pad(matrix, ((0, 0), (0, 0), (0, 1))))

    def __repr__(self) -> str:
        return f"RandomGrayscale({self.p})"


class Normalize:
    """``(image - mean) / std``, each a number or one a channel. The loader does its set's by itself."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = check_values("mean", mean)
        self.std = check_values("std", std)
        if not np.all(np.asarray(std) > 0):
            raise ValueError(f"std is {std}; the rule is std > 0")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        channels = check_images(images)[1]
        for name, value in (("mean", self.mean), ("std", self.std)):
            check_values(name, value, channels)
        return prepared(images, color=normalisation(self.mean, self.std, channels))

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class RandomErasing:
    """Fills a random rectangle of each image with probability p (Zhong et al. 2017; torchvision's).

    Args:
        p: 0..1.
        scale: (smallest, largest) share of the picture's area.
        ratio: (smallest, largest) height over width.
        value: a number, or one for each channel.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] = 0.0,
    ) -> None:
        self.p = check_share("p", p)
        self.scale = check_range(
            "scale", scale, "0 <= smallest <= largest <= 1", lambda low, high: 0 <= low <= high <= 1
        )
        self.ratio = check_range("ratio", ratio, "0 < smallest <= largest", lambda low, high: 0 < low <= high)
        self.value = check_values("value", value)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, height, width = check_images(images)
        chosen = rng.random(n) < self.p
        area = height * width * rng.uniform(*self.scale, (_ATTEMPTS, n))
        aspect = np.exp(rng.uniform(*np.log(self.ratio), (_ATTEMPTS, n)))
        sides = np.rint([np.sqrt(area * aspect), np.sqrt(area / aspect)]).astype(np.int64)
        fits = (sides[0] < height) & (sides[1] < width)
        first = fits.argmax(0)  # of the attempts; where none fits nothing is erased
        sides = np.where(chosen & fits.any(0), sides[:, first, np.arange(n)], 0)
        places = [
            rng.integers(0, size - side + 1, n) for size, side in zip((height, width), sides, strict=True)
        ]
        return _erased(images, np.stack([*places, *sides], axis=1), self.value)

    def __repr__(self) -> str:
        return f"RandomErasing({self.p}, scale={self.scale}, ratio={self.ratio}, value={self.value})"


class Cutout:
    """Fills a square of `size` pixels about a random pixel of each image (DeVries and Taylor 2017).

    At the border the square is cut off. `value` is a number, or one for each channel.
    """

    def __init__(self, size: int, value: float | Sequence[float] = 0.0) -> None:
        self.size = check_integer("size", size, 1)
        self.value = check_values("value", value)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, _, height, width = check_images(images)
        low, high = [], []
        for side in (height, width):
            begin = rng.integers(0, side, n) - self.size // 2
            low.append(np.maximum(begin, 0))
            high.append(np.minimum(begin + self.size, side))
        sides = [end - begin for begin, end in zip(low, high, strict=True)]
        return _erased(images, np.stack([*low, *sides], axis=1), self.value)

    def __repr__(self) -> str:
        return f"Cutout({self.size}, value={self.value})"


def _erased(images: np.ndarray, rectangles: np.ndarray, value: float | Sequence[float]) -> np.ndarray:
    """One rectangle (top, left, height, width) an image."""
    channels = images.shape[1]
    check_values("value", value, channels)
    return prepared(images, erase=rectangles[:, None], erase_value=np.broadcast_to(value, channels))
