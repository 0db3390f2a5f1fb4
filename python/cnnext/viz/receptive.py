"""The receptive field of a unit: which pixels it can see, by gradient or by arithmetic, and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C, nn
from .. import functional as F
from ..autograd import grad
from ..grad_mode import enable_grad
from ..tensor import Tensor
from .figures import new_figure, show_image, to_array
from .watch import evaluating, layer_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["field_by_arithmetic", "field_by_gradient", "receptive_field"]

# In these each place of the output depends on the same place of the input.
_PLACEWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm2d, nn.Dropout, nn.Identity),
)


# ---- by gradient -------------------------------------------------------------------------------------


def _ones(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A weight of one positive value: 1 / sqrt of the taps keeps sums over many layers in float32's range."""
    fan, taps = shape[1], math.prod(shape[2:])
    return Tensor(np.full(shape, 1 / (fan * math.sqrt(taps)), np.float32)).to(device=x.device)


def _conv(layer: nn.Conv2d, x: Tensor, y: Any) -> Tensor:
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.conv2d(x, _ones(x, layer.weight.shape), None, *geometry, algorithm="direct")


def _conv_transpose(layer: nn.ConvTranspose2d, x: Tensor, y: Any) -> Tensor:
    geometry = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    return F.conv_transpose2d(x, _ones(x, layer.weight.shape), None, *geometry, algorithm="direct")


def _max_pool(layer: nn.MaxPool2d, x: Tensor, y: Any) -> Any:
    """The sum over each window, from which every tap gets a gradient."""
    pooled, *indices = y if layer.return_indices else (y,)
    stride, dilation, kernel, padding = _window(layer)
    sides = []
    for axis in (0, 1):
        span = (pooled.shape[2 + axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        before = padding[axis][0]
        sides.append((before, max(0, span - before - x.shape[2 + axis])))
    # What no window reaches lies behind the last one.
    weight = _ones(x, (x.shape[1], 1, *kernel))
    summed = F.conv2d(x, weight, None, stride, tuple(sides), dilation, x.shape[1], algorithm="direct")
    summed = summed[:, :, : pooled.shape[2], : pooled.shape[3]]
    return (summed, *indices) if indices else summed


def _linear(layer: nn.Linear, x: Tensor, y: Any) -> Tensor:
    return F.linear(x, _ones(x, layer.weight.shape))


_STAND_INS: dict[type, Callable[[Any, Tensor, Any], Any]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
    nn.MaxPool2d: _max_pool,
    nn.Linear: _linear,
    **dict.fromkeys(_PLACEWISE, lambda layer, x, y: x),
    # Linear, with no negative weight, as they are.
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Upsample), lambda layer, x, y: y),
}


def _stand_in(module: nn.Module, args: tuple, output: Any) -> Any:
    """A forward hook: what the layer's geometry lets through, in the place of what its weights make of it."""
    if type(module) in _STAND_INS:
        return _STAND_INS[type(module)](module, args[0], output)
    if any(module.children()) and not any(module.parameters(recurse=False)):
        return output
    raise NotImplementedError(
        f"receptive fields through {type(module).__name__} are not supported: what it mixes is unknown"
    )


@enable_grad()  # wherever it is called
def field_by_gradient(
    model: nn.Module, layer: str, input_shape: Sequence[int], unit: tuple[int, int] | None = None
) -> np.ndarray:
    """The pixels that a unit of a layer depends on, as booleans (H, W).

    Exact for any graph of layers: convolutions, dense layers and max-pools are replaced by sums over the
    same windows and activations by the identity, so that no path's gradient is zero or cancels another's;
    the pixels with a gradient are the field. The model is run once and is as it was afterwards.

    Args:
        model: made of layers of `cnnext.nn`; what its forward calls besides layers is taken as it is.
        layer: dotted name of a layer with maps (1, K, P, Q) as output; its first call counts.
        input_shape: (C, H, W).
        unit: (row, column) in the layer's maps; None: the middle.

    Raises:
        ValueError: there is no such layer, it was not called or gives no maps, or the unit lies outside.
        NotImplementedError: a layer on the way mixes places in a way that is not known (GroupNorm, an own
            parameter), or by the data (MaxUnpool2d).
    """
    if len(tuple(input_shape)) != 3:
        raise ValueError(f"input_shape is {tuple(input_shape)}; the rule is (C, H, W)")
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    found: list[Any] = []
    with evaluating(model), ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(_stand_in))
        hooks.enter_context(
            layer_named(model, layer).register_forward_hook(lambda module, args, y: found.append(y))
        )
        x = Tensor(np.ones((1, *input_shape), np.float32))
        x = (x if parameter is None else x.to(device=parameter.device)).requires_grad_()
        model(x)
    if not found:
        raise ValueError(f"layer is {layer!r}; the rule is one that the model calls")
    maps = found[0][0] if isinstance(found[0], tuple) else found[0]
    if maps.ndim != 4:
        raise ValueError(f"layer {layer!r} gives {tuple(maps.shape)}; the rule is maps (1, K, P, Q)")
    row, column = _checked_unit(unit, maps.shape[2:])
    (gradient,) = grad(maps[0, :, row, column].sum(), x, allow_unused=True)
    if gradient is None:
        return np.zeros(tuple(input_shape)[1:], bool)
    return (gradient.detach().cpu().numpy()[0] != 0).any(axis=0)


def _checked_unit(unit: tuple[int, int] | None, shape: Sequence[int]) -> tuple[int, int]:
    if unit is None:
        return shape[0] // 2, shape[1] // 2
    if len(tuple(unit)) != 2 or not all(0 <= u < size for u, size in zip(unit, shape, strict=True)):
        raise ValueError(
            f"unit is {tuple(unit)}; the rule is (row, column) within the maps of {shape[0]} x {shape[1]}"
        )
    return tuple(unit)


# ---- by arithmetic -----------------------------------------------------------------------------------


def _window(layer: Any) -> tuple[Any, Any, Any, Any]:
    """(stride, dilation, kernel, (padding before, after)), for rows and columns each."""
    kernel = _C.parse_pair(layer.kernel_size, "kernel_size")
    dilation = _C.parse_pair(getattr(layer, "dilation", 1), "dilation")
    if isinstance(layer.padding, str):
        whole = [d * (k - 1) * (layer.padding == "same") for d, k in zip(dilation, kernel, strict=True)]
        padding = tuple((w // 2, w - w // 2) for w in whole)
    else:
        padding = _C.parse_padding(layer.padding)
    return _C.parse_pair(layer.stride, "stride"), dilation, kernel, padding


def field_by_arithmetic(
    layers: Iterable[nn.Module], size: Sequence[int], unit: tuple[int, int] | None = None
) -> np.ndarray:
    """The pixels that a unit behind a chain of layers can see, as booleans (H, W).

    Backwards through the chain: row i of a layer with kernel k, stride s, padding p and dilation d sees the
    rows ``i*s - p + d*t`` for t from 0 to k - 1, those that are rows of the layer's input; columns alike.

    Args:
        layers: convolutions, max- and average pools, and layers that act on each place for itself, in the
            order in which they are computed; such as ``model.features[:5]``.
        size: (H, W) of the image.
        unit: (row, column) in the maps of the last layer; None: the middle.

    Raises:
        ValueError: a layer's window does not fit, or the unit lies outside.
        NotImplementedError: another layer, or a pool with ceil_mode.
    """
    windows, sizes = [], [tuple(size)]
    if len(sizes[0]) != 2:
        raise ValueError(f"size is {sizes[0]}; the rule is (H, W)")
    for layer in layers:
        if type(layer) in _PLACEWISE:
            continue
        if type(layer) not in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d) or getattr(layer, "ceil_mode", False):
            raise NotImplementedError(f"the arithmetic of {layer!r} is not supported: use field_by_gradient")
        window = list(zip(*_window(layer), strict=True))
        out = tuple(
            (length + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
            for length, (stride, dilation, kernel, padding) in zip(sizes[-1], window, strict=True)
        )
        if min(out) < 1:
            raise ValueError(f"size is {tuple(size)}; the rule is one that {layer!r} has a window in")
        windows.append(window)
        sizes.append(out)
    seen = [np.array([u]) for u in _checked_unit(unit, sizes[-1])]
    for window, below in zip(reversed(windows), reversed(sizes[:-1]), strict=True):
        for axis, (stride, dilation, kernel, (before, _)) in enumerate(window):
            places = np.unique(seen[axis][:, None] * stride - before + dilation * np.arange(kernel))
            seen[axis] = places[(places >= 0) & (places < below[axis])]
    mask = np.zeros(sizes[0], bool)
    mask[np.ix_(*seen)] = True
    return mask


# ---- drawn -------------------------------------------------------------------------------------------


def receptive_field(model: nn.Module, image: Any, layer: str, unit: tuple[int, int] | None = None) -> Figure:
    """The image with the pixels that a unit can see (`field_by_gradient`) tinted, and a frame around them.

    Args:
        model, layer, unit: as `field_by_gradient` takes them.
        image: (C, H, W) or (1, C, H, W).
    """
    from matplotlib.patches import Rectangle

    pixels = to_array("image", image, "(C, H, W)", "(1, C, H, W)")
    pixels = pixels.reshape(pixels.shape[-3:])
    seen = field_by_gradient(model, layer, pixels.shape, unit)
    figure = new_figure(3.4, 3.6)
    axes = figure.subplots()
    called = f"middle unit of {layer}" if unit is None else f"unit ({unit[0]}, {unit[1]}) of {layer}"
    if not seen.any():
        show_image(axes, pixels, f"{called}: sees no pixel")
        return figure
    rows, columns = (np.flatnonzero(seen.any(axis=1 - axis)) for axis in (0, 1))
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    show_image(axes, pixels, f"{called}: {height} x {width} pixels")
    tint = np.zeros((*seen.shape, 4))
    tint[seen] = (0.85, 0.33, 0.12, 0.35)
    axes.imshow(tint)
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#d9541e", linewidth=2))
    return figure
