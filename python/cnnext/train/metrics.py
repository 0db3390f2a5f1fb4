"""What is measured beside the loss: ``metric(output, target) -> (sum, count)``, a value's parts.

An epoch's value is the sum of the sums over the sum of the counts: exact, whatever the batches are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Tensor, as_array

__all__ = ["accuracy", "mean_iou"]


def accuracy(output: Tensor, target: Any) -> tuple[int, int]:
    """How many of the (N,) or (N, H, W) labels the largest of the logits (N, C, ...) hits, and of how many.

    Of a target of probabilities (N, C, ...) the most likely class counts.
    """
    labels = as_array(target)
    if labels.dtype.kind not in "biu":
        labels = labels.argmax(1)
    return int((output.detach().argmax(1).data == labels).sum()), int(labels.size)


def mean_iou(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Intersection over union, averaged over the classes that occur in either (the Jaccard index).

    Args:
        predictions, labels: classes, integers of the same shape.
        classes: how many there are.
    """
    cells = np.asarray(labels, np.int64).ravel() * classes + np.asarray(predictions, np.int64).ravel()
    counts = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return float((np.diag(counts)[union > 0] / union[union > 0]).mean()) if union.any() else 0.0
