"""What all plots share: figures without pyplot's state, images as matplotlib wants them, checks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "show_image", "to_array", "to_png"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width x height inches, that draws without a display."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'cnnext[train]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file: the same bytes for the same figure and matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_array(name: str, value: Any, *shapes: str) -> np.ndarray:
    """A Tensor or array on the host, with as many dimensions as one of `shapes`, such as "(C, H, W)".

    Raises:
        ValueError: it has another number of dimensions, or no elements.
        TypeError: its elements are no numbers.
    """
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype == object or array.dtype.kind in "SUMm":
        raise TypeError(f"{name} has dtype {array.dtype}; the rule is an array of numbers")
    if array.ndim not in [shape.count(",") + 1 for shape in shapes] or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; the rule is {' or '.join(shapes)}, not empty")
    return array


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """image (C, H, W) without axes: colours for C = 3, else the mean over C in grey; stretched to 0..1.

    NaN is as dark as the darkest, and what is infinite as dark or bright as what is not.
    """
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    image = np.nan_to_num(image.astype(np.float64), nan=low, posinf=high, neginf=low)
    scaled = (image - low) / ((high - low) or 1.0)
    if len(image) == 3:
        axes.imshow(scaled.transpose(1, 2, 0))
    else:
        axes.imshow(scaled.mean(axis=0), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
