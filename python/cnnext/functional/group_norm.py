"""Group normalisation, out of batch norm's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import ops
from ..autocast_mode import raised
from ..autograd import vjp_through
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor
from ._layout import is_channels_last, laid_out

_PART = 1 << 18  # elements that a cache holds, for what is needed a moment only


def _parts(*maps: Any, channels_last: bool, elements: int) -> Iterator[tuple[slice, list[Any]]]:
    """Which images, and views of them as one image whose channels are theirs, one behind the other.

    Channels-last images cannot be seen so together: each is a part. elements: at most so many in a part,
    where an image has no more.
    """
    images = maps[0].shape[0]
    step = 1 if channels_last else max(1, min(images, elements // maps[0][0].size))
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        if channels_last:
            yield part, [m[part] for m in maps]
        else:
            yield part, [m[part].reshape(1, (part.stop - first) * m.shape[1], -1) for m in maps]


def _scaled(x: Any, mean: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    """(x - mean) * scale + shift by the channel, in one pass."""
    return ops.batch_norm(x, mean, np.ones_like(mean), scale, shift, False, 0.0, 0.0, out=out)


def _statistics(image: Any, groups: int, eps: float) -> tuple[Any, Any]:
    """Of the groups of a channels-last image: mean and 1 / sqrt(var + eps), from those of its channels."""
    _, mean, invstd = ops.batch_norm_forward(image, None, None, None, None, True, 0.0, eps)
    means = mean.reshape(groups, -1).astype(np.float64)
    variances = (1.0 / invstd.astype(np.float64) ** 2).reshape(groups, -1)
    centre = means.mean(1)
    spread = variances.mean(1) + ((means - centre[:, None]) ** 2).mean(1)
    return centre.astype(mean.dtype), (1.0 / np.sqrt(spread)).astype(mean.dtype)


def _each_channel(values: Any, channels: int) -> Any:
    """(images, groups) to one value for each channel of all images."""
    return np.repeat(values.reshape(-1), channels // values.shape[1])


def _affine_parameters(weight: Any, bias: Any, invstd: Any, channels: int) -> tuple[Any, Any]:
    """Scale and shift for each channel of the images that invstd (images, groups) is of."""
    scale = _each_channel(invstd, channels).reshape(-1, channels)
    shift = np.zeros_like(scale) if bias is None else np.zeros_like(scale) + bias
    return (scale if weight is None else scale * weight).reshape(-1), shift.reshape(-1)


@primitive(nondiff=(1, 2))
def _group_norm(x: Any, weight: Any, bias: Any, *, groups: int, eps: float) -> Any:
    """y, and mean and 1 / sqrt(var + eps) of each image's groups: (N, groups)."""
    channels_last, channels = is_channels_last(x), x.shape[1]
    x = laid_out(x, channels_last)
    if channels_last:
        found = [_statistics(x[i : i + 1], groups, eps) for i in range(x.shape[0])]
        mean, invstd = np.stack([m for m, _ in found]), np.stack([s for _, s in found])
        y = np.empty_like(x)
    else:
        rows = x.reshape(1, x.shape[0] * groups, -1)
        y, mean, invstd = ops.batch_norm_forward(rows, None, None, None, None, True, 0.0, eps)
        y, mean, invstd = y.reshape(x.shape), mean.reshape(-1, groups), invstd.reshape(-1, groups)
        if weight is None and bias is None:
            return y, mean, invstd
    for part, (image, out) in _parts(x, y, channels_last=channels_last, elements=x.size):
        scale, shift = _affine_parameters(weight, bias, invstd[part], channels)
        _scaled(image, _each_channel(mean[part], channels), scale, shift, out)
    return y, mean, invstd


@primitive
def _group_norm_backward(
    grad_y: Any, x: Any, weight: Any, mean: Any, invstd: Any, *, groups: int, eps: float
) -> Any:
    """The gradients of x, weight (C,) and bias (C,)."""
    channels_last, channels = is_channels_last(x), x.shape[1]
    x, grad_y = laid_out(x, channels_last), laid_out(grad_y, channels_last)
    grad_x = np.empty_like(x)
    by_image = np.empty_like(mean, shape=(2, x.shape[0], channels))  # sums of grad_y * normal, and of grad_y
    elements = x.size // (x.shape[0] * groups)
    for part, (image, grad, out) in _parts(x, grad_y, grad_x, channels_last=channels_last, elements=_PART):
        centre, scale = _each_channel(mean[part], channels), _each_channel(invstd[part], channels)
        _, *sums = ops.batch_norm_backward(
            grad, image, None, centre, scale, training=False, needs=(False, True, True)
        )
        by_image[:, part] = np.stack(sums).reshape(2, -1, channels)
        weighted = by_image[:, part] if weight is None else by_image[:, part] * weight
        by_group = weighted.reshape(2, -1, groups, channels // groups).sum(3) / elements
        through_scale, through_mean = (_each_channel(s, channels) for s in by_group)
        # grad_x = scale * (weight * grad_y - through_mean - normal * through_scale)
        _scaled(image, centre, -scale * scale * through_scale, -scale * through_mean, out)
        direct, none = _affine_parameters(weight, None, invstd[part], channels)
        ops.add(out, _scaled(grad, np.zeros_like(centre), direct, none), out=out)
    return grad_x, *by_image.sum(1, dtype=np.float64).astype(x.dtype)


def _group_norm_rule(
    g: Any, x: Any, weight: Any, out1: Any, out2: Any, groups: int, eps: float, wanted: Any
) -> tuple:
    grads = _group_norm_backward(g, x, weight, out1, out2, groups=groups, eps=eps)
    return tuple(grad if w else None for grad, w in zip(grads, wanted, strict=True))


def _group_norm_backward_rule(
    gs: Any, grad_y: Any, x: Any, weight: Any, groups: int, eps: float, wanted: Any
) -> list:
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    within, others = tuple(range(2, len(split))), (0, *range(2, x.ndim))

    def gradients(grad_y: Tensor, x: Tensor, weight: Any) -> tuple:
        """The three gradients as a composition, with mean and invstd as functions of x."""
        centred = x.reshape(split)
        centred = centred - centred.mean(within, keepdim=True)
        scale = 1.0 / ((centred * centred).mean(within, keepdim=True) + eps).sqrt()
        normal = centred * scale
        scaled = grad_y if weight is None else grad_y * weight.reshape([1, -1] + [1] * (x.ndim - 2))
        g = scaled.reshape(split)
        grad_x = g - g.mean(within, keepdim=True) - normal * (g * normal).mean(within, keepdim=True)
        grad_weight = (grad_y * normal.reshape(x.shape)).sum(others)
        return (scale * grad_x).reshape(x.shape), grad_weight, grad_y.sum(others)

    return vjp_through(gradients, (grad_y, x, weight), gs, wanted[:3])


defvjp(_group_norm, joint=_group_norm_rule)
defvjp(_group_norm_backward, joint=_group_norm_backward_rule)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias: Wu and He, 2018 (torch.nn.functional.group_norm).

    x: (N, C, ...), float32 or float64; mean and (biased) variance are those of each image's groups of
    C / num_groups channels; weight and bias: (C,). The result has x's memory format.

    Cost: forwards three readings of x and two writings of y, backwards five and four of as much, by batch
    norm's kernels and with no temporary of more than an image (or 1 MiB).
    ValueError: for shapes that do not fit, and for a batch with one value a group.
    """
    x = raised(as_tensor(x))
    if isinstance(num_groups, bool) or not isinstance(num_groups, (int, np.integer)):
        raise TypeError(f"group_norm: num_groups must be an int, got {num_groups!r}")
    if x.ndim < 2:
        raise ValueError(f"group_norm: x must have 2 dimensions or more, it has shape {list(x.shape)}")
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"group_norm: num_groups={num_groups} must divide the {channels} channels of x")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (channels,):
            raise ValueError(f"group_norm: {name} has shape {list(value.shape)}, expected [{channels}]")
    if x.numel() == num_groups:
        raise ValueError(
            f"group_norm: x of shape {list(x.shape)} has one value for each of {num_groups} groups; "
            "there must be more"
        )
    if x.numel() > x.shape[0] * num_groups:
        return _group_norm(x, weight, bias, groups=int(num_groups), eps=float(eps))[0]
    shape = (1, channels) + (1,) * (x.ndim - 2)  # one value is its own mean
    y = x - x
    y = y if weight is None else y * as_tensor(weight).reshape(shape)
    return y if bias is None else y + as_tensor(bias).reshape(shape)
