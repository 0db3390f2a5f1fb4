"""Random changes of a whole batch with its labels: ``transform(images, labels, generator) -> both``."""

from __future__ import annotations

import numpy as np

from .. import _C
from .checks import check_integer, check_number

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
        self.alpha = check_number("alpha", alpha, "a finite alpha > 0", lambda v: v > 0)
        self.num_classes = check_integer("num_classes", num_classes, 1)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        n = len(images)
        if labels.shape != (n,):
            raise ValueError(f"labels have shape {labels.shape}; the rule is ({n},), a class for each image")
        if labels.dtype.kind not in "iu":
            raise TypeError(f"labels have dtype {labels.dtype}; the rule is an integer dtype")
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
