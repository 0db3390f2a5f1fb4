"""Losses as modules."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..functional.loss import reduction_name
from .module import Module


class _Loss(Module):
    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_name(reduction, size_average, reduce)


class CrossEntropyLoss(_Loss):
    """Cross entropy of logits and class indices or probabilities (torch.nn.CrossEntropyLoss)."""

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing={label_smoothing} must lie between 0 and 1")
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, x: Any, target: Any) -> Any:
        """(N, C, ...) and (N, ...) to a scalar, or to (N, ...) with reduction="none"."""
        return F.cross_entropy(
            x, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip


class NLLLoss(_Loss):
    """The negative log likelihood of log-probabilities (torch.nn.NLLLoss)."""

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, x: Any, target: Any) -> Any:
        """(N, C, ...) and (N, ...) to a scalar, or to (N, ...) with reduction="none"."""
        return F.nll_loss(x, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MSELoss(_Loss):
    """The squared difference (torch.nn.MSELoss)."""

    def forward(self, x: Any, target: Any) -> Any:
        """Two tensors of one shape to a scalar, or to that shape with reduction="none"."""
        return F.mse_loss(x, target, reduction=self.reduction)
