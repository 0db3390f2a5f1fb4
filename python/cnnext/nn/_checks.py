"""Checks of constructor arguments, each with one wording."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices import parse_device
from ..dtypes import is_floating, parse_dtype


def positive(name: str, value: Any, least: int = 1) -> int:
    """An int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}")
    return int(value)


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """An int for both dimensions, or two."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name}={value!r} must be an int or a pair of ints")
    return positive(name, values[0], least), positive(name, values[1], least)


def conv_padding(padding: Any) -> Any:
    """'same', 'valid', an int, (ph, pw) or ((top, bottom), (left, right))."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding={padding!r} must be 'same', 'valid', an int or a pair")
        return padding
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != 2 or not all(isinstance(p, (tuple, list)) for p in padding):
            raise ValueError(f"padding={padding!r} must be ((top, bottom), (left, right))")
        return tuple(pair("padding", p, 0) for p in padding)
    return pair("padding", padding, 0)


def factory(device: Any, dtype: Any) -> np.dtype:
    """torch's two last constructor arguments: a floating dtype, and a device that exists (see place())."""
    if device is not None:
        parse_device(device)
    dtype = np.dtype(np.float32) if dtype is None else parse_dtype(dtype)
    if not is_floating(dtype):
        raise TypeError(f"dtype={dtype} must be a floating dtype")
    return dtype


def zeros_mode(padding_mode: Any) -> str:
    """Padding with zeros is the only mode there is."""
    if padding_mode in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"padding_mode={padding_mode!r} is not supported; only 'zeros' is")
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode={padding_mode!r} is unknown; only 'zeros' is supported")
    return padding_mode
