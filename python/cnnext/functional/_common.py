"""What the functions of this package share."""

from __future__ import annotations

from typing import Any

from ..grad_mode import mode
from ..tape import Variable, wrap
from ..tensor import Tensor, as_array


def as_tensor(x: Any) -> Tensor:
    """x itself where it is a Tensor, else a Tensor over the array."""
    return x if isinstance(x, Variable) else wrap(as_array(x))


def records(*xs: Any) -> bool:
    """Will a primitive of these be recorded?"""
    return mode.enabled and any(isinstance(x, Variable) and x._requires_grad for x in xs)


def batched(x: Any) -> tuple[Tensor, bool]:
    """A 3-d image as a batch of one, and whether it was one; other ranks are left for ops to judge."""
    x = as_tensor(x)
    return (x.unsqueeze(0), True) if x.data.ndim == 3 else (x, False)


def unbatched(y: Any, was_single: bool) -> Any:
    """Undo batched()."""
    return y.squeeze(0) if was_single else y


def note_update(*values: Any) -> None:
    """Count a change in place of those that are Tensors, which an operation of arrays made."""
    for value in values:
        if isinstance(value, Variable):
            value._version.count += 1


def as_raw(x: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return x.data if isinstance(x, Variable) else x
