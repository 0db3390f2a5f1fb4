"""Mixed precision: one dtype a thread that convolutions and dense layers compute in (torch.autocast).

The functions of `cnnext.functional` ask here; primitives and gradient rules do not, so that a backward pass
runs in the dtypes of its forward pass, wherever it is called.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Any

import numpy as np

from . import elementary as el
from .dtypes import DEFAULT_DTYPE, is_floating, is_half, parse_dtype
from .grad_mode import mode as _grad_mode
from .tape import Variable

_FLOAT64 = np.dtype(np.float64)


class _Mode(threading.local):
    dtype: np.dtype | None = None  # None: off
    depth = 0  # of contexts in this thread

    def __init__(self) -> None:
        self.casts: dict[tuple, tuple] = {}


mode = _Mode()


class autocast(contextlib.ContextDecorator):
    """Mixed precision, as context manager or decorator, in this thread (torch.autocast).

    Within it convolutions, transposed and fused ones too, and dense layers compute in `dtype`, "float16" or
    "bfloat16": sums are float32, and what they return has that dtype. Softmax, layer norm, group norm and
    losses take float32 and return it. Batch norm, pools, activations and arithmetic have their input's dtype;
    batch norm's statistics stay float32. float64 is left alone. Parameters stay what they are, and so do
    their gradients: a parameter is cast once in the outermost context, and anew where it changed.

    Only the forward pass belongs into it: `backward()` follows the dtypes that the forward pass had. With
    float16 small gradients vanish unless the loss is scaled: `cnnext.optim.GradScaler`.

    dtype: "float16" or "bfloat16" (needs ml_dtypes), on the CPU and on CUDA; other dtypes are a ValueError.
    enabled: False switches an outer context off.
    On the CPU it saves memory, not time: float32 has Winograd, and pools and activations of 16 bits are plain
    loops there; pools by averages, dropout and batch norm are float32 for the call.
    What differs from torch: one context for all devices, so no device_type; matmul and reductions have their
    operands' dtype.
    """

    def __init__(self, dtype: Any = "float16", enabled: bool = True) -> None:
        if not isinstance(enabled, bool):
            raise TypeError(f"autocast: enabled={enabled!r} must be a bool")
        self.dtype, self.enabled = _parse(dtype) if enabled else None, enabled
        self._before: list[np.dtype | None] = []

    def __enter__(self) -> autocast:
        self._before.append(mode.dtype)
        mode.dtype = self.dtype
        mode.depth += 1
        return self

    def __exit__(self, *exc: Any) -> None:
        mode.dtype = self._before.pop()
        mode.depth -= 1
        if mode.depth == 0:
            mode.casts.clear()

    def _recreate_cm(self) -> autocast:
        return autocast(self.dtype, self.enabled)  # a decorated function may run in several threads at once


def _parse(dtype: Any) -> np.dtype:
    if isinstance(dtype, str) and dtype not in ("float16", "bfloat16"):
        raise ValueError(f"autocast: dtype={dtype!r} must be 'float16' or 'bfloat16'")
    parsed = parse_dtype(dtype)
    if not is_half(parsed):
        raise ValueError(f"autocast: dtype={parsed.name!r} must be 'float16' or 'bfloat16'")
    return parsed


def is_autocast_enabled() -> bool:
    """Is this thread within an enabled autocast?"""
    return mode.dtype is not None


def get_autocast_dtype() -> np.dtype | None:
    """The dtype of this thread's autocast; None where there is none."""
    return mode.dtype


def lowered(*values: Any) -> tuple:
    """The factors of a convolution or dense layer in the dtype of the context, which must be on.

    A packed weight is computed with as it was packed: the others follow it.
    """
    dtype = mode.dtype
    for value in values:
        if not isinstance(value, Variable) and isinstance(getattr(value, "dtype", None), str):
            dtype = parse_dtype(value.dtype)
    return tuple([_cast(value, dtype) for value in values])


def raised(x: Any) -> Any:
    """x in float32 where a context is on and it has 16 bits; for what loses too much in them."""
    return x if mode.dtype is None or not is_half(x.dtype) else el.cast(x, dtype=DEFAULT_DTYPE)


def _cast(value: Any, dtype: Any) -> Any:
    is_parameter = getattr(value, "is_parameter", False)
    # To ask a parameter itself counts as having its array.
    own = getattr(value.own_array() if is_parameter else value, "dtype", None)
    if not isinstance(own, np.dtype) or own in (dtype, _FLOAT64) or not is_floating(own):
        return value  # packed weights have a name
    return _kept_cast(value, dtype) if is_parameter else el.cast(value, dtype=dtype)


def _kept_cast(parameter: Any, dtype: np.dtype) -> Any:
    """The cast of a parameter, made once as long as its values stay.

    Whoever writes to an array that was got from it before is not noticed, as nowhere on the tape.
    """
    recorded = _grad_mode.enabled and parameter._requires_grad
    key = (id(parameter), recorded)
    found = mode.casts.get(key)
    if found is not None:
        whose, state, cast = found
        if whose() is parameter and state == parameter.state() and cast.dtype == dtype:
            return cast
    cast = el.cast(parameter if recorded else parameter.own_array(), dtype=dtype)
    casts = mode.casts
    whose = weakref.ref(parameter, lambda _: casts.pop(key, None))
    casts[key] = (whose, parameter.state(), cast)  # the state after: casting counts as having its array
    return cast
