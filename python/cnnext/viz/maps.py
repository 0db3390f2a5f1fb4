"""Filters, feature maps and saliency: what the layers of a network look for, find, and use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import grad
from ..data.checks import check_integer
from ..grad_mode import enable_grad
from ..nn import Module
from ..tensor import Tensor
from .figures import new_figure, show_image, to_array
from .watch import evaluating, image_batch, outputs_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters", "saliency", "saliency_map"]


def _check_limit(limit: int) -> None:
    check_integer("limit", limit, 1)


def filters(weight: Any, limit: int = 64) -> Figure:
    """The filters of a convolution, weight (K, C, R, S), as tiles: the mean over C, blue < 0 < red.

    Args:
        weight: an array or a Tensor, such as ``model.features[0].weight``.
        limit: the first that many.
    """
    weight = to_array("weight", weight, "(K, C, R, S)")
    _check_limit(limit)
    tiles = weight[:limit].mean(axis=1)
    columns = min(8, len(tiles))
    rows = -(-len(tiles) // columns)
    figure = new_figure(0.8 * columns, 0.8 * rows)
    bound = float(np.abs(tiles[np.isfinite(tiles)]).max(initial=0)) or 1.0
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, tile in zip(figure.axes, tiles, strict=False):
        axes.imshow(tile, cmap="RdBu_r", vmin=-bound, vmax=bound)
    return figure


def feature_maps(model: Module, image: Any, layers: Sequence[str] | None = None, limit: int = 8) -> Figure:
    """What every layer makes of one image: a row a layer, in the order in which they are called.

    A layer's output (1, C, H, W) is shown as its first `limit` maps, each stretched from its least value to
    its largest; one without places, (1, F), as a strip of F cells. A layer that is called twice has two rows.

    Args:
        model: run once, in evaluation mode, each layer by itself; it is as it was afterwards.
        image: (C, H, W) or (1, C, H, W), as the model takes it.
        layers: dotted names, as ``model.named_modules()`` gives them; None: all that hold no others.
        limit: maps a row.

    Raises:
        ValueError: a name is no layer's, or nothing was called that gives maps.
    """
    _check_limit(limit)
    found = outputs_of(model, image, None if layers is None else list(layers))
    found = [(name, output) for name, output in found if output.ndim in (2, 4)]
    if not found:
        raise ValueError(f"layers is {layers!r}; the rule is layers that are called and give (N, C, H, W)")
    figure = new_figure(0.9 * limit + 1.4, 0.9 * len(found))
    grid = figure.add_gridspec(len(found), limit)
    for row, (name, output) in enumerate(found):
        if output.ndim == 2:
            panels = [(figure.add_subplot(grid[row, :]), output)]
        else:
            panels = [(figure.add_subplot(grid[row, i]), m) for i, m in enumerate(output[0][:limit])]
        for axes, values in panels:
            axes.imshow(values, cmap="viridis", aspect="auto" if output.ndim == 2 else "equal")
            axes.set_xticks([])
            axes.set_yticks([])
        shape = " x ".join(map(str, output.shape[1:]))
        panels[0][0].set_ylabel(f"{name}\n{shape}", rotation=0, ha="right", va="center", fontsize=8)
    return figure


@enable_grad()  # wherever it is called
def saliency_map(model: Module, image: Any, target: int | None = None) -> tuple[np.ndarray, int]:
    """How much each pixel moves a class's logit: (map (H, W) >= 0, the class).

    The map is the largest |d logit / d pixel| over the channels (Simonyan, Vedaldi and Zisserman, "Deep
    Inside Convolutional Networks", 2013). The model's .grad stays as it is.

    Args:
        model: gives logits (1, classes).
        image: (C, H, W) or (1, C, H, W), as the model takes it.
        target: the class, 0 <= target < classes; None: the one that the model predicts.

    Raises:
        ValueError: the model's output or the target is another.
    """
    with evaluating(model):
        batch = image_batch(model, image).requires_grad_()
        logits = model(batch)
        if logits.ndim != 2:
            raise ValueError(f"the model gives {tuple(logits.shape)}; the rule is logits (1, classes)")
        if target is None:
            target = int(logits.detach().argmax(1).item())
        elif not 0 <= target < logits.shape[1]:
            raise ValueError(f"target is {target}; the rule is 0 <= target < {logits.shape[1]}")
        return largest_gradient(logits[0, target], batch), target


def largest_gradient(value: Tensor, batch: Tensor) -> np.ndarray:
    """(H, W): the largest |d value / d pixel| over the channels of an image (1, C, H, W)."""
    (gradient,) = grad(value, batch)
    return np.abs(gradient.detach().cpu().numpy()[0].astype(np.float32)).max(axis=0)


def saliency(
    model: Module, image: Any, target: int | None = None, names: Sequence[str] | None = None
) -> Figure:
    """The image and, beside it, `saliency_map`: bright where a change moves the class's logit most.

    Args:
        model, image, target: as `saliency_map` takes them.
        names: what the classes are called.
    """
    values, target = saliency_map(model, image, target)
    if names is not None and len(names) <= target:
        raise ValueError(f"names has {len(names)} names; the rule is one for each class, {target} too")
    called = str(target) if names is None else names[target]
    figure = new_figure(5.6, 3.0)
    left, right = figure.subplots(1, 2)
    pixels = to_array("image", image, "(C, H, W)", "(1, C, H, W)")
    show_image(left, pixels.reshape(pixels.shape[-3:]), "image")
    right.imshow(values, cmap="inferno", vmin=0)
    right.set_axis_off()
    right.set_title(f"|gradient| of the logit of {called}", fontsize=9)
    return figure
