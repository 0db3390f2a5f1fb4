"""Types and small helpers that the modules behind `cnnext.ops` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from . import _C

#: A NumPy, torch, JAX or CuPy array, or another object with __dlpack__ or __cuda_array_interface__. On CUDA
#: the call is queued on the current stream of the arrays' library, or on the one that cuda_stream() names.
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
    if _is_on_device(array):
        return _C.contiguous(array, False, None).shape
    if hasattr(array, "__dlpack__"):
        return np.from_dlpack(array).shape
    raise TypeError(f"{name} must be an array, got {type(array).__name__}")


def _is_on_device(array: Array) -> bool:
    """Whether NumPy cannot show it."""
    if hasattr(array, "__dlpack_device__"):
        return array.__dlpack_device__()[0] != 1
    return hasattr(array, "__cuda_array_interface__")


def is_empty(value: Any) -> bool:
    """Whether it is (), torch's way to write a default."""
    return isinstance(value, tuple | list) and len(value) == 0


def batched(array: Array) -> Array:
    """The array with a batch axis of one in front, a view where its library makes one."""
    if not hasattr(array, "__getitem__") and _is_on_device(array):
        dense = _C.contiguous(array, False, None)
        return dense.reshape((1, *dense.shape))
    return array[None] if hasattr(array, "__getitem__") else np.from_dlpack(array)[None]


def parse_needs(needs: Sequence[bool]) -> tuple[bool, bool, bool]:
    """Which of the gradients of (x, weight, bias) are wanted."""
    flags = tuple(bool(need) for need in needs)
    if len(flags) != 3:
        raise ValueError(f"needs has {len(flags)} values; it must be three bools, for x, weight and bias")
    return flags
