"""Batches of an ImageSet, shuffled and augmented reproducibly."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..devices import parse_device
from .datasets import ImageSet
from .prefetch import prefetched

__all__ = ["DataLoader"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class DataLoader:
    """Iterates over `dataset` once per loop, as ``(images, labels)`` batches of NumPy (or CuPy) arrays.

    Images are float32 (N, C, H, W): raw pixels scaled to 0..1, then `transform`, then normalised
    by the set's mean and standard deviation. Labels are int64 (N,). The last batch may be smaller.

    All randomness of one pass follows from (seed, epoch) alone: the same pair gives the same bits,
    whatever ran before. The epoch counts up by itself; `set_epoch` continues an interrupted run.

    Args:
        dataset: an `ImageSet`.
        batch_size: images a batch, >= 1.
        shuffle: a new order in every epoch.
        seed: >= 0.
        drop_last: leave out a last batch smaller than `batch_size`.
        transform: ``f(images float32 (N, C, H, W) in 0..1, generator) -> images``, see `augment`.
        channels_last: give the batch NHWC strides; its shape stays (N, C, H, W).
        device: "cpu", or "cuda" or "cuda:N" for batches of CuPy arrays there (torch: `pin_memory=True` and
            `.to(device, non_blocking=True)`). A thread makes them then, from two batches ahead in pinned
            memory, and the next one is copied while the step on the current one runs.
    """

    def __init__(
        self,
        dataset: ImageSet,
        batch_size: int = 64,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        channels_last: bool = False,
        device: Any = "cpu",
    ) -> None:
        if operator.index(batch_size) < 1:
            raise ValueError(f"batch_size is {batch_size}; the rule is batch_size >= 1")
        if operator.index(seed) < 0:
            raise ValueError(f"seed is {seed}; the rule is seed >= 0")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.transform = transform
        self.channels_last = channels_last
        self.device = parse_device(device)
        self._epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """The number of the next pass, counted from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        batches = self._batches(np.random.default_rng((self.seed, self._epoch)))
        self._epoch += 1
        return batches if self.device == "cpu" else prefetched(batches, self.device)

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        count = len(self.dataset)
        order = rng.permutation(count) if self.shuffle else np.arange(count)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._images(chosen, rng), self.dataset.labels[chosen].astype(np.int64)

    def _images(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images = self.dataset.images[chosen].astype(np.float32)
        images *= np.float32(1.0 / self.dataset.max_value)
        if self.transform is not None:
            images = self.transform(images, rng)
        images = (images - np.float32(self.dataset.mean)) * np.float32(1.0 / self.dataset.std)
        if self.channels_last:
            return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images)
