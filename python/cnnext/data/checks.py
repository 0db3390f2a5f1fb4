"""Checks of what transforms, loaders and settings are made with: an error names argument, value and rule."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

__all__ = ["check_images", "check_integer", "check_number", "check_range", "check_share", "check_values"]


def check_integer(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """An int from `least` to `most`: TypeError for what is none (True is none), ValueError beyond."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; the rule is an integer")
    if value < least or (most is not None and value > most):
        rule = f"{name} >= {least}" if most is None else f"{least} <= {name} <= {most}"
        raise ValueError(f"{name} is {value}; the rule is {rule}")
    return int(value)


def check_number(name: str, value: Any, rule: str, holds: Any = lambda number: True) -> float:
    """A finite number of which `holds`: TypeError for what is none (True is none), else ValueError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; the rule is {rule}")
    number = value if isinstance(value, int) else float(value)
    if not (isinstance(number, int) or math.isfinite(number)) or not holds(number):
        raise ValueError(f"{name} is {value}; the rule is {rule}")
    return number


def check_share(name: str, value: Any, high: float = 1.0) -> float:
    """A number from 0 to `high`."""
    return check_number(name, value, f"0 <= {name} <= {high:g}", lambda v: 0 <= v <= high)


def check_range(name: str, value: Any, rule: str, holds: Any) -> tuple[float, float]:
    """Two finite numbers (low, high) of which ``holds(low, high)``."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}; the rule is {rule}, two numbers")
    low, high = (check_number(name, part, rule) for part in value)
    if not holds(low, high):
        raise ValueError(f"{name} is {value}; the rule is {rule}")
    return low, high


def check_values(name: str, value: Any, channels: int | None = None) -> Any:
    """One finite number, or a sequence of them, one a channel (where the number of channels is known)."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} is {value!r}; the rule is one number, or one a channel")
    if array.ndim > 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} is {value}; the rule is one finite number, or one a channel")
    if channels is not None and array.size not in (1, channels):
        raise ValueError(f"{name} is {value}; the rule is one number, or {channels}, one a channel")
    return value


def check_images(images: Any) -> tuple[int, int, int, int]:
    """The shape (N, C, H, W) of an array of numbers; TypeError or ValueError for what is none."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images is {type(images).__name__}; the rule is a NumPy array (N, C, H, W)")
    if images.dtype.kind not in "biuf":
        raise TypeError(f"images has dtype {images.dtype}; the rule is uint8, or a dtype of real numbers")
    if images.ndim != 4:
        raise ValueError(f"images has shape {images.shape}; the rule is (N, C, H, W)")
    return images.shape
