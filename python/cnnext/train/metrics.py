"""What is measured beside the loss: ``metric(output, target) -> (sum, count)``, a value's parts.

An epoch's value is the sum of the sums over the sum of the counts: exact, whatever the batches are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.checks import check_integer
from ..tensor import Tensor, as_array

__all__ = ["accuracy", "confusion", "mean_iou"]


def accuracy(output: Tensor, target: Any, ignore_index: int | None = None) -> tuple[int, int]:
    """How many of the (N,) or (N, H, W) labels the largest of the logits (N, C, ...) hits, and of how many.

    Of a target of probabilities (N, C, ...) the most likely class counts. Logits with a NaN hit nothing;
    labels that are `ignore_index` do not count.

    Raises:
        ValueError: the shapes do not fit one another, or a label is none of the C classes.
    """
    logits, labels = output.detach().data, as_array(target)
    if logits.ndim < 2 or not logits.shape[1]:
        raise ValueError(f"output has shape {tuple(logits.shape)}; the rule is logits (N, C, ...), C >= 1")
    is_probability = labels.dtype.kind not in "biu"
    expected = logits.shape if is_probability else (logits.shape[0], *logits.shape[2:])
    if labels.shape != expected:
        raise ValueError(f"target has shape {tuple(labels.shape)}; the rule is {tuple(expected)}")
    if not labels.size:
        return 0, 0
    if is_probability:
        labels = labels.argmax(1)
    counted = labels != ignore_index
    _check_labels("target", labels * counted, logits.shape[1])
    with np.errstate(invalid="ignore"):  # of bfloat16
        best = logits.max(1)
    hits = (logits.argmax(1) == labels) & (best == best) & counted
    return int(hits.sum()), int(counted.sum())


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts: row = true class, column = predicted class; arguments as mean_iou's."""
    predictions, labels = _checked(predictions, labels, classes)
    cells = labels.ravel() * classes + predictions.ravel()
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def mean_iou(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Intersection over union, averaged over the classes that occur in either (the Jaccard index).

    0 where there is no pixel.

    Args:
        predictions, labels: classes, integers of the same shape.
        classes: how many there are, >= 1.

    Raises:
        TypeError: predictions or labels are no integers.
        ValueError: their shapes differ, or one is no class.
    """
    predictions, labels = _checked(predictions, labels, classes)
    both = labels[predictions == labels]
    hit, true, found = (np.bincount(part.ravel(), minlength=classes) for part in (both, labels, predictions))
    union = true + found - hit
    return float((hit[union > 0] / union[union > 0]).mean()) if union.any() else 0.0


def _checked(predictions: Any, labels: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64."""
    check_integer("classes", classes, 1)
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape:
        raise ValueError(
            f"predictions has shape {predictions.shape}; the rule is the labels', {labels.shape}"
        )
    for name, array in (("predictions", predictions), ("labels", labels)):
        if array.dtype.kind not in "biu":
            raise TypeError(f"{name} has dtype {array.dtype}; the rule is an integer dtype")
        _check_labels(name, array, classes)
    return predictions.astype(np.int64), labels.astype(np.int64)


def _check_labels(name: str, labels: Any, classes: int) -> None:
    if labels.size and not 0 <= (low := int(labels.min())) <= (high := int(labels.max())) < classes:
        raise ValueError(f"{name} holds {low if low < 0 else high}; the rule is 0..{classes - 1}")
