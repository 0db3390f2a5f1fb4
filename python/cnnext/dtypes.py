"""Which dtypes there are: NumPy's, and bfloat16, which NumPy knows by ml_dtypes alone."""

from __future__ import annotations

from typing import Any

import numpy as np

DEFAULT_DTYPE = np.dtype(np.float32)


def is_floating(dtype: np.dtype) -> bool:
    """Is it a floating dtype? NumPy files bfloat16 under void."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name == "bfloat16")


def is_half(dtype: np.dtype) -> bool:
    """Is it float16 or bfloat16?"""
    return dtype.itemsize == 2 and is_floating(dtype)


def parse_dtype(dtype: Any) -> np.dtype:
    """A NumPy dtype from a dtype, a type or a name; TypeError otherwise; ImportError without ml_dtypes."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return _bfloat16()
    try:
        return np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must name a NumPy dtype, such as 'float32'; got {dtype!r}") from None


def _bfloat16() -> np.dtype:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise ImportError("NumPy has bfloat16 from ml_dtypes alone: pip install ml_dtypes") from None
    return np.dtype(bfloat16)
