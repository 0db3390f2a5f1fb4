"""Rows of layers as nn.Row calls them; the networks also run on another library's nn (bench), plainly."""

from __future__ import annotations

from typing import Any

from .. import nn

__all__ = ["Row"]


class _PlainRow:
    def __call__(self, x: Any, *layers: Any, residual: Any = None, then: Any = None) -> Any:
        for layer in layers:
            x = layer(x)
        if residual is not None:
            x = x + residual
        return x if then is None else then(x)


Row: Any = getattr(nn, "Row", _PlainRow)
