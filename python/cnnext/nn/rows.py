"""Rows of layers that a module calls by names of its own."""

from __future__ import annotations

from typing import Any

from .fuse import Plan
from .runs import ConvRun, Run


def _nothing(x: Any) -> Any:
    return x


class Row:
    """Layers called one after the other, computed as Sequential computes them: runs as one operation.

    For a forward that has its layers by other names than a Sequential's: make one for each row, in __init__,
    and pass it the layers at each call: ``self._row(x, self.conv1, self.bn1, self.relu)``. It is no Module
    and holds no parameter. residual: added to the last layer's result, before `then`.
    """

    def __init__(self) -> None:
        self._all, self._front = Plan(), Plan()

    def __call__(self, x: Any, *layers: Any, residual: Any = None, then: Any = None) -> Any:
        row = layers if then is None else (*layers, then)
        *steps, last = self._all.steps(row) or [_nothing]
        for step in steps:
            x = step(x)
        if residual is None:
            return last(x)
        if isinstance(last, ConvRun) and (last.layers[-1] is then or not last.has_activation):
            y = last.with_residual(x, residual)
            if y is not None:
                return y
        rest = last.layers if isinstance(last, Run) else [last]
        for step in self._front.steps([layer for layer in rest if layer is not then]):
            x = step(x)
        x = x + residual
        return x if then is None else then(x)
