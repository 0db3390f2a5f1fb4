"""Padding and flattening."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor


@primitive
def _pad(x: Any, *, sides: tuple[tuple[int, int], ...], value: float) -> Any:
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, sides, strict=True))
    out = np.empty_like(x, shape=shape)  # keeps the memory format
    out.fill(value)
    source = tuple(slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(x.shape, sides, strict=True))
    target = tuple(slice(s.start + b, s.stop + b) for s, (b, _) in zip(source, sides, strict=True))
    out[target] = x[source]
    return out


defvjp(_pad, lambda g, sides: _pad(g, sides=tuple((-b, -a) for b, a in sides), value=0.0))


def pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Constant padding (torch.nn.functional.pad).

    pad: (left, right, top, bottom, ...), the last dimension first. Negative sizes crop. mode: "constant".
    """
    x = as_tensor(x)
    if mode != "constant":
        raise NotImplementedError(f"pad: mode={mode!r} is not supported; only 'constant' is")
    sizes = tuple(pad)
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in sizes):
        raise TypeError(f"pad must hold ints, got {sizes!r}")
    if len(sizes) % 2 or len(sizes) > 2 * x.ndim:
        raise ValueError(
            f"pad={sizes} must hold two sizes a dimension, for at most the {x.ndim} dimensions of x"
        )
    pairs = tuple((sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2))[::-1]
    sides = ((0, 0),) * (x.ndim - len(pairs)) + pairs
    if any(max(-b, 0) + max(-a, 0) > n or n + b + a < 0 for n, (b, a) in zip(x.shape, sides, strict=True)):
        raise ValueError(f"pad={sizes} crops more than there is of shape {list(x.shape)}")
    return _pad(x, sides=sides, value=0.0 if value is None else value)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim as one (torch.flatten)."""
    return as_tensor(x).flatten(start_dim, end_dim)
