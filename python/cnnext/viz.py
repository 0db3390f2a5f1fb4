"""Plots of a training run, as matplotlib figures that need no display and no pyplot state.

Needs matplotlib: ``pip install 'cnnext[train]'``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "filters", "to_png", "training_curves"]

_FIT, _HELD_OUT = "#1f6fb4", "#d9541e"


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'cnnext[train]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss (logarithmic) and accuracy over the epochs.

    Args:
        history: one mapping an epoch with the keys epoch, train_loss, train_accuracy,
            validation_loss and validation_accuracy: the rows of a run's ``history.csv``.
    """
    figure = _figure(9.0, 3.6)
    epochs = [row["epoch"] for row in history]
    for axes, kind, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1.0, 100.0), strict=True):
        for part, colour in (("train", _FIT), ("validation", _HELD_OUT)):
            values = [factor * row[f"{part}_{kind}"] for row in history]
            axes.plot(epochs, values, color=colour, label=part, marker="." if len(epochs) < 40 else None)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    loss_axes, accuracy_axes = figure.axes
    loss_axes.set_yscale("log")
    loss_axes.set_ylabel("cross-entropy")
    accuracy_axes.set_ylabel("accuracy, %")
    # The first epochs would press everything that matters into the top of the picture.
    worst = min(
        min(row["train_accuracy"], row["validation_accuracy"]) for row in history[len(history) // 4 :]
    )
    accuracy_axes.set_ylim(max(0.0, 100 * worst - 2), 100.5)
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str] | None = None) -> Figure:
    """Counts (classes, classes), row = true class, column = predicted class; coloured by share of the row."""
    classes = len(counts)
    if counts.shape != (classes, classes):
        raise ValueError(f"counts has shape {counts.shape}; the rule is (classes, classes)")
    names = [str(i) for i in range(classes)] if names is None else list(names)
    figure = _figure(5.6, 5.2)
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(classes), names)
    axes.set_yticks(range(classes), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = int(np.trace(counts))
    axes.set_title(f"{right} of {int(counts.sum())} right", fontsize=10)
    return figure


def filters(weight: np.ndarray, limit: int = 64) -> Figure:
    """The filters of a convolution, weight (K, C, R, S), as tiles: the mean over C, blue < 0 < red."""
    if weight.ndim != 4:
        raise ValueError(f"weight has shape {weight.shape}; the rule is (K, C, R, S)")
    tiles = weight[:limit].mean(axis=1)
    columns = min(8, len(tiles))
    rows = -(-len(tiles) // columns)
    figure = _figure(0.8 * columns, 0.8 * rows)
    bound = float(np.abs(tiles).max()) or 1.0
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, tile in zip(figure.axes, tiles, strict=False):
        axes.imshow(tile, cmap="RdBu_r", vmin=-bound, vmax=bound)
    return figure
