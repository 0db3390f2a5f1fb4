"""Random changes of a whole batch with its labels: ``transform(images, labels, generator) -> both``."""

from __future__ import annotations

import math

import numpy as np

from .. import _C

__all__ = ["MixUp"]


class MixUp:
    """Blends each image, and its label, with another of the batch (Zhang et al. 2018; torchvision's MixUp).

    For a `DataLoader`'s `batch_transform`. Labels (N,) become class probabilities (N, num_classes), float32,
    which `nn.functional.cross_entropy` takes.

    Args:
        alpha: the share of the first image is drawn from Beta(alpha, alpha), for each image, > 0.
        num_classes: > 0; every label must be below it.
    """

    def __init__(self, alpha: float = 1.0, *, num_classes: int) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is {alpha}; the rule is a finite alpha > 0")
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; the rule is num_classes >= 1")
        self.alpha = alpha
        self.num_classes = num_classes

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        n = len(images)
        if labels.ndim != 1:
            raise ValueError(f"labels have shape {labels.shape}; the rule is (N,), a class for each image")
        if n and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"labels span {labels.min()}..{labels.max()}; "
                f"the rule is 0..{self.num_classes - 1}, num_classes={self.num_classes}"
            )
        partner = rng.permutation(n)
        share = rng.beta(self.alpha, self.alpha, n).astype(np.float32)
        mixed = _C.mix_images(np.asarray(images, np.float32), partner, share)
        probability = np.zeros((n, self.num_classes), np.float32)
        probability[np.arange(n), labels] = 1
        return mixed, _C.mix_images(probability, partner, share)

    def __repr__(self) -> str:
        return f"MixUp({self.alpha}, num_classes={self.num_classes})"
