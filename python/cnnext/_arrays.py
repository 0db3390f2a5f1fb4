"""Types and small helpers that the modules behind `cnnext.ops` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

#: A NumPy array, a torch CPU tensor, a JAX CPU array, or another object with __dlpack__.
Array: TypeAlias = Any
#: An int for both axes, or (h, w).
Pair: TypeAlias = int | Sequence[int]
#: An int, (h, w), ((top, bottom), (left, right)), "same" or "valid".
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | str


def shape_of(array: Array, name: str) -> tuple[int, ...]:
    """The array's shape; a TypeError names the argument where it is no array."""
    shape = getattr(array, "shape", None)
    if isinstance(shape, tuple):
        return tuple(shape)
    if hasattr(array, "__dlpack__"):
        return np.from_dlpack(array).shape
    raise TypeError(f"{name} must be an array, got {type(array).__name__}")


def is_empty(value: Any) -> bool:
    """Whether it is (), torch's way to write a default."""
    return isinstance(value, tuple | list) and len(value) == 0


def batched(array: Array) -> Array:
    """A view of the array with a batch axis of one in front."""
    return array[None] if hasattr(array, "__getitem__") else np.from_dlpack(array)[None]


def parse_needs(needs: Sequence[bool]) -> tuple[bool, bool, bool]:
    """Which of the gradients of (x, weight, bias) are wanted."""
    flags = tuple(bool(need) for need in needs)
    if len(flags) != 3:
        raise ValueError(f"needs has {len(flags)} values; it must be three bools, for x, weight and bias")
    return flags
