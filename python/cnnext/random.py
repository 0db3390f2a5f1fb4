"""The random numbers of cnnext: one seed for initialisation, shuffling and dropout."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_lock = threading.Lock()
_generator: Any = None  # made on first use: numpy.random takes time to import
_dropout_seed = 0
_dropout_offset = 0


def manual_seed(seed: int) -> None:
    """Start every random stream of cnnext anew from `seed`, a non-negative int (torch.manual_seed)."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be an int, got {seed!r}")
    if seed.__index__() < 0:
        raise ValueError(f"seed={seed} must not be negative")
    _start(seed.__index__())


def _start(seed: int | None) -> None:
    global _generator, _dropout_seed, _dropout_offset
    from numpy.random import Generator, Philox

    with _lock:
        _generator = Generator(Philox(seed))
        _dropout_seed = int(_generator.integers(0, 2**63))
        _dropout_offset = 0


def generator() -> np.random.Generator:
    """The generator behind initialisation and rand(); seeded by the system until manual_seed is called."""
    if _generator is None:
        _start(None)
    return _generator


def dropout_state(count: int) -> tuple[int, int]:
    """(seed, offset) for the next `count` values of the counter-based stream that dropout draws from."""
    global _dropout_offset
    if _generator is None:
        _start(None)
    with _lock:
        offset = _dropout_offset
        _dropout_offset += count
    return _dropout_seed, offset


def get_state() -> dict[str, Any]:
    """Where the streams stand, as plain numbers and arrays that cnnext.save takes."""
    return {
        "generator": generator().bit_generator.state,
        "dropout_seed": _dropout_seed,
        "dropout_offset": _dropout_offset,
    }


def set_state(state: dict[str, Any]) -> None:
    """Go on from a get_state()."""
    global _dropout_seed, _dropout_offset
    generator().bit_generator.state = state["generator"]
    with _lock:
        _dropout_seed, _dropout_offset = int(state["dropout_seed"]), int(state["dropout_offset"])
