"""The two memory formats of images, as arrays."""

from __future__ import annotations

from typing import Any

from .. import ops


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
