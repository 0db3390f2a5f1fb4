"""What fake implementations know of results: memory formats and strides as csrc/core/tensor.cpp chooses them.

Sizes may be symbolic, so everything here is arithmetic and comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def _memory_order(ndim: int, channels_last: bool) -> list[int]:
    """The axes from outermost to innermost."""
    axes = list(range(ndim))
    if channels_last and ndim >= 3:
        axes.append(axes.pop(0 if ndim == 3 else 1))
    return axes


def _is_dense(t: Tensor, channels_last: bool) -> bool:
    expected = 1
    for axis in reversed(_memory_order(t.ndim, channels_last)):
        size = t.shape[axis]
        if size == 1:
            continue
        if t.stride(axis) != expected:
            return bool(t.numel() == 0)
        expected = expected * size
    return True


def is_channels_last(t: Tensor) -> bool:
    """The format of an image (N, C, H, W) or (C, H, W), or of (N, C, ...), that results take over."""
    nchw = _is_dense(t, False)
    if t.ndim not in (3, 4):
        return t.ndim > 3 and not nchw and _is_dense(t, True)
    if nchw != _is_dense(t, True):
        return not nchw
    c, columns = t.ndim - 3, t.ndim - 1
    step, column_step = t.stride(c), t.stride(columns)
    if not nchw:
        return t.shape[c] != 1 and t.shape[c] != 0 and step < column_step
    if step != 1 or column_step != (t.shape[c] if t.shape[c] != 0 else 1):
        return False
    return not (column_step == 1 and t.stride(c + 1) == (t.shape[columns] if t.shape[columns] != 0 else 1))


def common_channels_last(a: Tensor, b: Tensor) -> bool:
    """The format that a gradient of both takes."""
    a_last, b_last = is_channels_last(a), is_channels_last(b)
    if a_last == b_last:
        return a_last
    if not _is_dense(a, a_last) or _is_dense(a, b_last):
        return b_last
    if not _is_dense(b, b_last) or _is_dense(b, a_last):
        return a_last
    return a_last if a.numel() >= b.numel() else b_last


def empty(like: Tensor, shape: Sequence[Any], channels_last: bool = False, dtype: Any = None) -> Tensor:
    """An uninitialised tensor on like's device, of its dtype unless told, with a result's strides."""
    strides: list[Any] = [0] * len(shape)
    step: Any = 1
    for axis in reversed(_memory_order(len(shape), channels_last)):
        strides[axis] = step
        step = step * (shape[axis] if shape[axis] != 0 else 1)
    return like.new_empty_strided(tuple(shape), tuple(strides), dtype=dtype or like.dtype)


def image_like(like: Tensor, channels: Any, size: Sequence[Any], dtype: Any = None) -> Tensor:
    """An image batched as like, in its format."""
    return empty(like, (*like.shape[:-3], channels, *size), is_channels_last(like), dtype)


# ---- parameters ----


def pair(value: Any) -> list[Any]:
    """(h, w) of an int or a pair."""
    return list(value) if isinstance(value, (tuple, list)) else [value, value]


def sides(padding: Sequence[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """((top, bottom), (left, right)) of (h, w) or of those four in a row, which is how ops take them."""
    if len(padding) == 4:
        return (padding[0], padding[1]), (padding[2], padding[3])
    if len(padding) != 2:
        raise ValueError(
            f"padding has {len(padding)} values; it must be (h, w) or (top, bottom, left, right)"
        )
    return (padding[0], padding[0]), (padding[1], padding[1])


def packed(padding: Any) -> Any:
    """What `cnnext._C` takes for the padding of an op: four in a row as two pairs, anything else as it is."""
    return sides(padding) if type(padding) is list and len(padding) == 4 else padding


def flat_padding(padding: Any, size: Sequence[Any], kernel: Any, stride: Any, dilation: Any) -> list[Any]:
    """Padding in any of its forms as an op takes it: (h, w), or (top, bottom, left, right).

    size, kernel, stride and dilation, (h, w), are what "same" asks for.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return [0, 0]
        if padding != "same":
            raise ValueError(f"padding is {padding!r}; it must be 'same' or 'valid', or numbers")
        four = []
        for n, k, s, d in zip(size, pair(kernel), pair(stride), pair(dilation), strict=True):
            total = ((n + s - 1) // s - 1) * s + d * (k - 1) + 1 - n
            total = total if total > 0 else 0
            four += [total // 2, total - total // 2]
        return four
    if not isinstance(padding, (tuple, list)):
        return [padding, padding]
    if padding and isinstance(padding[0], (tuple, list)):
        return [value for side in padding for value in side]
    return list(padding)


def conv_size(
    size: Sequence[Any], kernel: Sequence[Any], stride: Any, padding: Any, dilation: Any
) -> list[Any]:
    """(P, Q) of a convolution, or of a pool without ceil_mode."""
    result = []
    for n, k, s, p, d in zip(size, kernel, pair(stride), sides(pair(padding)), pair(dilation), strict=True):
        result.append((n + p[0] + p[1] - d * (k - 1) - 1) // s + 1)
    return result


def pool_size(
    size: Sequence[Any], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Any]:
    """(P, Q) of a pool, without windows that would start in the bottom or right padding, as torch's."""
    if not ceil_mode:
        return conv_size(size, pair(kernel), stride, padding, dilation)
    result = []
    for n, k, s, p, d in zip(
        size, pair(kernel), pair(stride), sides(pair(padding)), pair(dilation), strict=True
    ):
        count = -((d * (k - 1) + 1 - n - p[0] - p[1]) // s) + 1
        if (count - 1) * s >= n + p[0]:
            count = count - 1
        result.append(count)
    return result


def code_dtype(kernel: Any) -> torch.dtype:
    """Of window codes: the smallest that has room for the taps and for all ones, which says "none"."""
    taps = pair(kernel)[0] * pair(kernel)[1]
    return torch.uint8 if taps <= 255 else torch.uint16 if taps <= 65535 else torch.int32
