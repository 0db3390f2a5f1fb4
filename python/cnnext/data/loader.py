"""Batches of an ImageSet, shuffled and augmented reproducibly."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import numpy as np

from ..devices import parse_device
from .checks import check_integer
from .datasets import ImageSet
from .prefetch import prefetched
from .prepare import prepared
from .workers import made_ahead

__all__ = ["DataLoader"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]
BatchTransform = Callable[[np.ndarray, np.ndarray, np.random.Generator], Batch]


@dataclasses.dataclass
class _Position:
    """The batch that comes next; `begun` while a pass over the epoch is under way, or was left."""

    epoch: int
    batch: int = 0
    begun: bool = False


class DataLoader:
    """Iterates over `dataset` once per loop, as ``(images, labels)`` batches of NumPy (or CuPy) arrays.

    Images are float32 (N, C, H, W): raw pixels scaled to 0..1, then `transform`, then normalised
    by the set's mean and standard deviation. Labels are int64 (N,). The last batch may be smaller.

    The order follows from (seed, epoch), what is random in a batch from (seed, epoch, number of the batch):
    the same numbers give the same bits, whatever ran before, in however many threads. The epoch counts up by
    itself; `set_epoch` begins another, `state_dict` and `load_state_dict` go on in the middle of one.

    Args:
        dataset: an `ImageSet`.
        batch_size: images a batch, >= 1.
        shuffle: a new order in every epoch.
        seed: >= 0.
        drop_last: leave out a last batch smaller than `batch_size`.
        transform: ``f(images float32 (N, C, H, W) in 0..1, generator) -> images``, see `augment`. It draws
            from that generator alone, so that its results can be repeated, and keeps no state.
        batch_transform: ``f(images, labels, generator) -> (images, labels)`` of a normalised batch: `MixUp`.
        channels_last: give the batch NHWC strides; its shape stays (N, C, H, W).
        device: "cpu", or "cuda" or "cuda:N" for batches of CuPy arrays there (torch: `pin_memory=True` and
            `.to(device, non_blocking=True)`). A thread makes them then, from two batches ahead in pinned
            memory, and the next one is copied while the step on the current one runs.
        num_workers: threads (torch: processes) that make batches ahead; 0 makes each when it is asked for.
        prefetch_factor: batches ahead for each of those threads, >= 1.

    What `transform` raises is raised by the loop, with the number of the image in the set. However a loop
    ends (an error, Ctrl-C, break), the threads end with it.
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
        batch_transform: BatchTransform | None = None,
        channels_last: bool = False,
        device: Any = "cpu",
        num_workers: int = 0,
        prefetch_factor: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
            ("prefetch_factor", prefetch_factor, 1),
        ):
            check_integer(name, value, least)
        for name, value in (("transform", transform), ("batch_transform", batch_transform)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} is {value!r}; the rule is a callable, or None")
        if not isinstance(dataset, ImageSet):
            raise TypeError(f"dataset is {type(dataset).__name__}; the rule is a data.ImageSet")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.transform = transform
        self.batch_transform = batch_transform
        self.channels_last = channels_last
        self.device = parse_device(device)
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self._position = _Position(0)

    def __len__(self) -> int:
        """Batches of a whole pass."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """The number of the next pass, counted from 0."""
        self._position = _Position(check_integer("epoch", epoch))

    def state_dict(self) -> dict[str, Any]:
        """The position, in plain numbers: behind the batch that was handed out last, made ahead or not.

        `batch` is the number of batches that the pass has handed out. It is 0 again, and `epoch` one more,
        when the loop has ended; in the loop's body it goes up to ``len(loader)``.
        """
        return {
            "seed": self.seed,
            "epoch": self._position.epoch,
            "batch": self._position.batch,
            **self._described(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there: the next loop is the rest of the pass that was under way, bit for bit.

        A pass that had handed out its last batch has nothing left: that loop is empty, and the one after it
        is the next epoch, as for the loader that went on. Iterators from before are not changed. ValueError
        where images, batch size or order are not what they were: the position would mean something else.
        """
        missing = {"seed", "epoch", "batch", *self._described()} - set(state_dict)
        if missing:
            raise ValueError(f"the loader's state lacks {', '.join(sorted(missing))}")
        for name, here in self._described().items():
            if state_dict[name] != here:
                raise ValueError(
                    f"the loader's state was saved with {name}={state_dict[name]}; here it is {here}"
                )
        seed, epoch, batch = (operator.index(state_dict[name]) for name in ("seed", "epoch", "batch"))
        if min(seed, epoch, batch) < 0 or batch > len(self):
            raise ValueError(
                f"the loader's state has seed {seed}, epoch {epoch}, batch {batch}; "
                f"the rule is 0 <= batch <= {len(self)}, nothing negative"
            )
        self.seed = seed
        self._position = _Position(epoch, batch)

    def _described(self) -> dict[str, Any]:
        """What a position depends on."""
        return {
            "images": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        at = self._position
        # A pass that was left early is not taken up again, unless its state is loaded.
        at = _Position(at.epoch + 1) if at.begun else _Position(at.epoch, at.batch)
        at.begun = True
        self._position = at
        return self._pass(at, self.seed)

    def _pass(self, at: _Position, seed: int) -> Iterator[tuple[Any, Any]]:
        made = self._made(at.epoch, at.batch, seed)
        batches = made if self.device == "cpu" else prefetched(made, self.device)
        try:
            for batch in batches:
                at.batch += 1
                yield batch
        finally:
            batches.close()
            made.close()
        at.epoch, at.batch, at.begun = at.epoch + 1, 0, False

    def _made(self, epoch: int, first: int, seed: int) -> Generator[Batch, None, None]:
        """The batches from number `first` on, on the host."""
        count = len(self.dataset)
        order = np.random.default_rng((seed, epoch)).permutation(count) if self.shuffle else np.arange(count)

        def make(number: int) -> Batch:
            chosen = order[number * self.batch_size :][: self.batch_size]
            # A spawn key, because (seed, epoch, 0) would be the generator of the order once more.
            source = np.random.SeedSequence((seed, epoch), spawn_key=(number,))
            rng = np.random.default_rng(source)
            images = self._images(chosen, rng, f"batch {number} of epoch {epoch}")
            labels = self.dataset.labels[chosen].astype(np.int64)
            if self.batch_transform is not None:
                images, labels = self.batch_transform(images, labels, rng)
            if self.channels_last:
                images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
            return images, labels

        numbers = range(first, len(self))
        if self.num_workers:
            yield from made_ahead(make, numbers, self.num_workers, self.num_workers * self.prefetch_factor)
        else:
            yield from map(make, numbers)

    def _images(self, chosen: np.ndarray, rng: np.random.Generator, where: str) -> np.ndarray:
        images = self.dataset.images[chosen]
        if self.transform is not None:
            images = prepared(images, scale=1.0 / self.dataset.max_value)
            try:
                images = self.transform(images, rng)
            except Exception as error:
                culprit = self._culprit(images, chosen)
                _say_where(error, f"{culprit} of {self.dataset.name}, {where}")
                raise
        return self.dataset.normalised(images, scaled=self.transform is not None)

    def _culprit(self, images: np.ndarray, chosen: np.ndarray) -> str:
        """Which image it is that the transform raises for: the first that it does not take alone."""
        for image, number in zip(images, chosen, strict=True):
            try:
                self.transform(image[None], np.random.default_rng(0))
            except Exception:
                return f"image {number}"
        return f"one of images {', '.join(map(str, chosen[:8]))}{', ...' if len(chosen) > 8 else ''}"


def _say_where(error: Exception, where: str) -> None:
    """In the message itself, where that is one text; else as a note, where Python has them (3.11)."""
    if len(error.args) == 1 and isinstance(error.args[0], str) and not isinstance(error, KeyError):
        error.args = (f"{error.args[0]} (in the transform of {where})",)
    elif hasattr(error, "add_note"):
        error.add_note(f"in the transform of {where}")
