"""Max-pool, its indices and unpool for torch, and average pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ..._arrays import Padding, Pair, is_empty
from ..._ops_pool import _unpool_shape
from ._layout import code_dtype, flat_padding, image_like, packed, pair, pool_size, sides
from ._op import Op, raw

_WINDOW = "SymInt[2] kernel_size, SymInt[2] stride, SymInt[] padding, SymInt[2] dilation, bool ceil_mode"


def _step(kernel: Any, stride: Any) -> Any:
    """The stride, where nothing or torch's [] says "as the kernel"."""
    return kernel if stride is None or is_empty(stride) else stride


def _normal_window(
    size: Sequence[Any], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Any, ...]:
    stride = pair(_step(kernel, stride))
    padding = flat_padding(padding, size, kernel, stride, dilation)
    return pair(kernel), stride, padding, pair(dilation), bool(ceil_mode)


def _pooled_size(
    x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Any]:
    torch._check(x.ndim in (3, 4), lambda: f"x has shape {x.shape}; it must be (N, C, H, W) or (C, H, W)")
    return pool_size(x.shape[-2:], kernel, _step(kernel, stride), padding, dilation, ceil_mode)


# ---- max-pool ----


def _max_pool2d(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    return _C.max_pool2d(raw(x), kernel, stride, packed(padding), dilation, ceil_mode, False, "plane", None)


def _max_pool2d_fake(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    return image_like(x, x.shape[-3], _pooled_size(x, kernel, stride, padding, dilation, ceil_mode))


def _max_pool2d_setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.window = inputs[1:]


def _max_pool2d_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    _, codes = max_pool2d_with_indices(x.detach(), *ctx.window, "window")
    return (max_pool2d_backward(g, codes, x.shape, *ctx.window, "window"), *[None] * 5)


#: Without indices: what a call that records nothing is. Its gradient finds them anew.
max_pool2d_op = Op(
    "max_pool2d(Tensor x, SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, "
    "SymInt[2] dilation=1, bool ceil_mode=False) -> Tensor",
    _max_pool2d,
    _max_pool2d_fake,
    _max_pool2d_setup,
    _max_pool2d_rule,
    normal=lambda x, *window: (x, *_normal_window(x.shape[-2:], *window)),
)


def _with_indices(
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    indices: str = "plane",
) -> Any:
    return _C.max_pool2d(raw(x), kernel, stride, packed(padding), dilation, ceil_mode, True, indices, None)


def _with_indices_fake(
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    indices: str = "plane",
) -> tuple[Tensor, Tensor]:
    size = _pooled_size(x, kernel, stride, padding, dilation, ceil_mode)
    dtype = torch.int64 if indices == "plane" else code_dtype(kernel)
    return image_like(x, x.shape[-3], size), image_like(x, x.shape[-3], size, dtype)


def _with_indices_setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, *ctx.window, ctx.kind = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _with_indices_rule(ctx: Any, g: Tensor | None, _: Any) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 7
    (indices,) = ctx.saved_tensors
    return (max_pool2d_backward(g, indices, ctx.shape, *ctx.window, ctx.kind), *[None] * 6)


max_pool2d_with_indices = Op(
    "max_pool2d_with_indices(Tensor x, SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, "
    'SymInt[2] dilation=1, bool ceil_mode=False, str indices="plane") -> (Tensor, Tensor)',
    _with_indices,
    _with_indices_fake,
    _with_indices_setup,
    _with_indices_rule,
    normal=lambda x, *rest: (x, *_normal_window(x.shape[-2:], *rest[:5]), rest[5]),
)


def _backward(
    grad_y: Tensor, indices: Tensor, shape: Any, kernel: Any, stride: Any, padding: Any, *rest: Any
) -> Tensor:
    return _C.max_pool2d_backward(raw(grad_y), indices, shape, kernel, stride, packed(padding), *rest, None)


def _save_indices(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.shape, ctx.window = inputs[0].shape, inputs[2:]


def _backward_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return (max_pool2d_gather(g, indices, *ctx.window[1:]), *[None] * 8)


max_pool2d_backward = Op(
    f"max_pool2d_backward(Tensor grad_y, Tensor indices, SymInt[] input_shape, {_WINDOW}, "
    "str indices_kind) -> Tensor",
    _backward,
    lambda grad_y, indices, shape, *rest: image_like(grad_y, shape[-3], shape[-2:]),
    _save_indices,
    _backward_rule,
    normal=lambda g, indices, shape, *rest: (
        g, indices, shape, *_normal_window(shape[-2:], *rest[:5]), rest[5],
    ),
)  # fmt: skip


def _gather(x: Tensor, indices: Tensor, kernel: Any, stride: Any, padding: Any, *rest: Any) -> Tensor:
    return _C.max_pool2d_gather(raw(x), indices, kernel, stride, packed(padding), *rest, None)


def _gather_fake(x: Tensor, indices: Tensor, *rest: Any) -> Tensor:
    return image_like(x, x.shape[-3], indices.shape[-2:])


def _gather_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return (max_pool2d_backward(g, indices, ctx.shape, *ctx.window), *[None] * 7)


max_pool2d_gather = Op(
    f"max_pool2d_gather(Tensor x, Tensor indices, {_WINDOW}, str indices_kind) -> Tensor",
    _gather,
    _gather_fake,
    _save_indices,
    _gather_rule,
    normal=lambda x, indices, *rest: (x, indices, *_normal_window(x.shape[-2:], *rest[:5]), rest[5]),
)


def max_pool2d(
    x: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: str = "plane",
) -> Tensor | tuple[Tensor, Tensor]:
    """Differentiable `cnnext.ops.max_pool2d` (torch.nn.functional.max_pool2d).

    Parameters, shapes, dtypes and errors are cnnext.ops.max_pool2d's; ties as in torch. The gradient
    keeps one byte a window. `torch.ops.cnnext.max_pool2d`, and `max_pool2d_with_indices`.
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    if return_indices:
        return max_pool2d_with_indices(x, *window, indices)
    if x.requires_grad and torch.is_grad_enabled():
        return max_pool2d_with_indices(x, *window, "window")[0]
    return max_pool2d_op(x, *window)


# ---- unpool ----

_UNPOOL = "SymInt[2] kernel_size, SymInt[2] stride, SymInt[] padding"


def _unpool(
    x: Tensor, indices: Tensor, kernel: Any, stride: Any, padding: Any, size: Any, kind: str = "plane"
) -> Tensor:
    shape = _unpool_shape(tuple(x.shape), kernel, stride, packed(padding), size)
    return _C.max_unpool2d(raw(x), indices, kernel, stride, packed(padding), shape, kind, None)


def _normal_unpool(kernel: Any, stride: Any, padding: Any) -> tuple[Any, ...]:
    return pair(kernel), pair(_step(kernel, stride)), flat_padding(padding, (), (), (), ())


def _unpool_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    kernel, stride, padding, _, kind = ctx.window
    return (max_unpool2d_backward(g, indices, kernel, stride, padding, kind), *[None] * 6)


max_unpool2d_op = Op(
    f"max_unpool2d(Tensor x, Tensor indices, {_UNPOOL}, SymInt[] output_size, "
    'str indices_kind="plane") -> Tensor',
    _unpool,
    lambda x, indices, kernel, stride, padding, size, kind="plane": image_like(x, x.shape[-3], size[-2:]),
    _save_indices,
    _unpool_rule,
    normal=lambda x, indices, *rest: (x, indices, *_normal_unpool(*rest[:3]), *rest[3:]),
)


def _unpool_backward(
    grad_y: Tensor, indices: Tensor, kernel: Any, stride: Any, padding: Any, kind: str
) -> Tensor:
    return _C.max_pool2d_gather(raw(grad_y), indices, kernel, stride, packed(padding), 1, False, kind, None)


def _unpool_backward_rule(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    """The sum of what each place was read for: unpool itself would keep one of several."""
    (indices,) = ctx.saved_tensors
    *window, kind = ctx.window
    if kind == "plane":
        kept = indices >= 0
        columns = (indices * kept).flatten(-2)
        zeros = g.new_zeros((*ctx.shape[:-2], ctx.shape[-2] * ctx.shape[-1]))
        return (zeros.scatter_add(-1, columns, (g * kept).flatten(-2)).reshape(ctx.shape), *[None] * 5)
    return (max_pool2d_backward(g, indices, ctx.shape, *window, 1, False, kind), *[None] * 5)


max_unpool2d_backward = Op(
    f"max_unpool2d_backward(Tensor grad_y, Tensor indices, {_UNPOOL}, str indices_kind) -> Tensor",
    _unpool_backward,
    _gather_fake,
    _save_indices,
    _unpool_backward_rule,
    normal=lambda g, indices, *rest: (g, indices, *_normal_unpool(*rest[:3]), rest[3]),
)


def max_unpool2d(
    x: Tensor,
    indices: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    output_size: Sequence[int] | None = None,
    *,
    indices_kind: str = "plane",
) -> Tensor:
    """Differentiable `cnnext.ops.max_unpool2d` (torch.nn.functional.max_unpool2d); `torch.ops.cnnext`'s, too.

    Parameters, shapes, dtypes and errors are cnnext.ops.max_unpool2d's.
    """
    if output_size is None:
        kernel, step, pads = _normal_unpool(kernel_size, stride, padding)
        size = [
            (n - 1) * s + k - before - after
            for n, s, k, (before, after) in zip(x.shape[-2:], step, kernel, sides(pads), strict=True)
        ]
    else:
        size = list(output_size)  # of the plane, or of the whole result
    return max_unpool2d_op(x, indices, kernel_size, stride, padding, size, indices_kind)
