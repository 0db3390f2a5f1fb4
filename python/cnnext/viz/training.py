"""Plots of a training run: its curves, and what was taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import new_figure, to_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "training_curves"]

_LARGEST = 1e100  # whose axis matplotlib still draws
_COLOURS = {"train": "#1f6fb4", "validation": "#d9541e"}


def training_curves(history: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]) -> Figure:
    """Loss (logarithmic) and accuracy over the epochs.

    Args:
        history: one mapping an epoch with the keys epoch, train_loss, train_accuracy and, where there is
            a validation set, validation_loss and validation_accuracy: the rows of a run's ``history.csv``.
            Or one mapping of these keys to lists, with an entry an epoch.

    What is NaN or infinite, or a loss of 0 on its logarithmic axis, is left out of its line.

    Raises:
        ValueError: there is no epoch, or one lacks a key or a number for it.
    """
    if isinstance(history, Mapping):
        history = [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]
    history = list(history)
    if not history:
        raise ValueError("history has no rows; the rule is one for each epoch, at least one")
    parts = [part for part in _COLOURS if part == "train" or f"{part}_loss" in history[0]]
    needed = ["epoch", *(f"{part}_{kind}" for part in parts for kind in ("loss", "accuracy"))]
    for i, row in enumerate(history):
        missing = [key for key in needed if key not in row]
        if missing:
            raise ValueError(f"history[{i}] has no {', '.join(missing)}; the rule is {', '.join(needed)}")
    columns = {key: _column(key, history) for key in needed}
    logarithmic = any((columns[f"{part}_loss"] > 0).any() for part in parts)
    figure = new_figure(9.0, 3.6)
    epochs = columns["epoch"]
    for axes, kind, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1.0, 100.0), strict=True):
        for part in parts:
            values = factor * columns[f"{part}_{kind}"]
            if kind == "loss" and logarithmic:
                values = np.where(values > 0, values, np.nan)
            marker = "." if len(epochs) < 40 else None
            axes.plot(epochs, values, color=_COLOURS[part], label=part, marker=marker)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    loss_axes, accuracy_axes = figure.axes
    if logarithmic:
        loss_axes.set_yscale("log")
    loss_axes.set_ylabel("cross-entropy")
    accuracy_axes.set_ylabel("accuracy, %")
    # The first epochs would press everything that matters into the top of the picture.
    later = np.concatenate([columns[f"{part}_accuracy"][len(history) // 4 :] for part in parts])
    worst = later[np.isfinite(later)].min(initial=1.0)
    accuracy_axes.set_ylim(max(0.0, 100 * worst - 2), 100.5)
    return figure


def _column(key: str, history: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """float64, from numbers or their texts, as a CSV file has them; NaN for what an axis cannot show."""
    values = np.empty(len(history))
    for i, row in enumerate(history):
        try:
            values[i] = float(row[key])
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"history[{i}] has {key} {row[key]!r}; the rule is a number") from None
    values[~(np.abs(values) < _LARGEST)] = np.nan
    return values


def confusion_matrix(counts: Any, names: Sequence[str] | None = None) -> Figure:
    """Counts (classes, classes), row = true class, column = predicted class; coloured by share of the row.

    Args:
        counts: integers >= 0.
        names: what the classes are called; None: their numbers.

    Raises:
        ValueError: the counts are not square, negative or no whole numbers, or the names are not as many.
    """
    counts = to_array("counts", counts, "(classes, classes)")
    classes = len(counts)
    if counts.shape != (classes, classes) or counts.min() < 0:
        raise ValueError(
            f"counts has shape {counts.shape} and least value {counts.min()}; "
            "the rule is (classes, classes), 0 or more"
        )
    if not (np.isfinite(counts).all() and (counts == np.rint(counts)).all()):
        raise ValueError("counts has parts of images; the rule is whole numbers")
    counts = counts.astype(np.int64)
    names = [str(i) for i in range(classes)] if names is None else list(names)
    if len(names) != classes:
        raise ValueError(f"names has {len(names)} names; the rule is one for each of {classes} classes")
    figure = new_figure(5.6, 5.2)
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
