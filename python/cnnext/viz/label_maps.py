"""Pictures of a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.checks import check_integer
from .figures import new_figure, show_image, to_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["segmentation"]

_MOST_CLASSES = 1000


def segmentation(
    images: Any, truth: Any, predicted: Any, names: Sequence[str] | None = None, limit: int = 6
) -> Figure:
    """Input, truth and prediction side by side, a row an image; pixels are coloured by class.

    Args:
        images: (N, C, H, W).
        truth, predicted: integers (N, H, W), a class for each pixel, >= 0.
        names: what the classes are called; None: their numbers.
        limit: the first that many images.

    Raises:
        ValueError: the shapes do not fit one another, a class is negative, has no name, or there are more
            than 1000.
        TypeError: the classes are no integers.
    """
    images = to_array("images", images, "(N, C, H, W)")
    planes = {"truth": to_array("truth", truth, "(N, H, W)")}
    planes["prediction"] = to_array("predicted", predicted, "(N, H, W)")
    for name, plane in zip(("truth", "predicted"), planes.values(), strict=True):
        expected = (len(images), *images.shape[2:])
        if plane.shape != expected:
            raise ValueError(f"{name} has shape {plane.shape}; the rule is that of the images, {expected}")
        if plane.dtype.kind not in "iu":
            raise TypeError(f"{name} has dtype {plane.dtype}; the rule is an integer dtype")
        if plane.min() < 0:
            raise ValueError(f"{name} has class {plane.min()}; the rule is 0 or more")
    check_integer("limit", limit, 1)
    classes = 1 + max(int(plane.max()) for plane in planes.values())
    if classes > _MOST_CLASSES:
        raise ValueError(f"there is a class {classes - 1}; the rule is at most {_MOST_CLASSES} classes")
    names = [str(i) for i in range(classes)] if names is None else list(names)
    if len(names) < classes:
        raise ValueError(f"names has {len(names)} names; the rule is one for each class, {classes} or more")
    rows = min(limit, len(images))
    figure = new_figure(6.6, 1.9 * rows + 0.5)
    panels = figure.subplots(rows, 3, squeeze=False)
    colours = _colours(len(names))
    for row in range(rows):
        show_image(panels[row, 0], images[row], "" if row else "input")
        for axes, (name, plane) in zip(panels[row, 1:], planes.items(), strict=True):
            axes.imshow(plane[row], cmap=colours, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title("" if row else name, fontsize=9)
    bar = figure.colorbar(panels[0, 2].images[0], ax=panels[:, 1:], ticks=range(len(names)))
    bar.ax.set_yticklabels(names, fontsize=7)
    return figure


def _colours(count: int) -> Any:
    """Black for class 0, the background where there is one; hues that stay apart for the others."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    source = matplotlib.colormaps["tab10" if count <= 11 else "gist_rainbow"]
    steps = range(count - 1) if count <= 11 else np.linspace(0, 1, count - 1)
    return ListedColormap([(0, 0, 0, 1), *[source(step) for step in steps]])
