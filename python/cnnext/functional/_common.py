"""What the functions of this package share."""

from __future__ import annotations

from typing import Any

from .. import ops
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


def is_channels_last(array: Any) -> bool:
    """Do the channels of (N, C, H, W) lie innermost, in dense memory that is not contiguous as well?"""
    if array.ndim != 4 or array.flags.c_contiguous:
        return False
    return bool(array.transpose(0, 2, 3, 1).flags.c_contiguous)


def laid_out(array: Any, channels_last: bool) -> Any:
    """The array in one of the two memory formats, copied where it is in another."""
    if is_channels_last(array) if channels_last else array.flags.c_contiguous:
        return array
    return ops.contiguous(array, channels_last=True) if channels_last else array.copy(order="C")
