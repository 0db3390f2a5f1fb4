"""The argmax of a max-pool, drawn on its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C, ops
from .figures import new_figure, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["max_pool_argmax"]

_NUMBERS_UP_TO = 12  # larger planes would have illegible numbers


def max_pool_argmax(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Figure:
    """A plane with the windows of a max-pool and a ring where each found its maximum; beside it the result.

    Args:
        x: (H, W) or (1, 1, H, W).
        kernel_size, stride, padding, dilation, ceil_mode: as `cnnext.ops.max_pool2d` takes them. A window
            is outlined from its first tap to its last, also where padding or dilation leaves some out.

    Raises:
        ValueError: x is no single plane, or no max-pool of it.
    """
    plane = to_array("x", x, "(H, W)", "(1, 1, H, W)")
    if plane.ndim == 4 and plane.shape[:2] != (1, 1):
        raise ValueError(f"x has shape {plane.shape}; the rule is one plane, (H, W) or (1, 1, H, W)")
    plane = np.ascontiguousarray(plane.reshape(plane.shape[-2:]).astype(np.float32))
    y, indices = ops.max_pool2d(
        plane[None, None], kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
    )
    figure = new_figure(8.0, 4.0)
    left, right = figure.subplots(1, 2)
    _show_plane(left, plane, "input: windows, and where their maxima are")
    _show_plane(right, y[0, 0], f"max-pool: {y.shape[2]} x {y.shape[3]}")
    _outline_windows(left, y.shape[2:], kernel_size, stride, padding, dilation)
    rows, columns = np.divmod(indices[indices >= 0], plane.shape[1])
    left.scatter(columns, rows, s=160, facecolors="none", edgecolors="#d9541e", linewidths=1.8)
    return figure


def _show_plane(axes: Axes, plane: np.ndarray, title: str) -> None:
    axes.imshow(plane, cmap="Blues")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    if max(plane.shape) <= _NUMBERS_UP_TO:
        middle = (plane.min() + plane.max()) / 2
        for (row, column), value in np.ndenumerate(plane):
            colour = "white" if value > middle else "black"
            axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=8, color=colour)


def _outline_windows(
    axes: Axes, shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> None:
    from matplotlib.patches import Rectangle

    kernel = _C.parse_pair(kernel_size, "kernel_size")
    step = kernel if stride is None else _C.parse_pair(stride, "stride")
    (top, _), (left, _) = _C.parse_padding(padding)
    height, width = (
        d * (k - 1) + 1 for d, k in zip(_C.parse_pair(dilation, "dilation"), kernel, strict=True)
    )
    for row, column in np.ndindex(*shape):
        corner = (column * step[1] - left - 0.5, row * step[0] - top - 0.5)
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#555555", linewidth=0.8))
    axes.set_xlim(-left - 0.6, axes.get_xlim()[1] + 0.1 + left)
    axes.set_ylim(axes.get_ylim()[0] + 0.1 + top, -top - 0.6)
