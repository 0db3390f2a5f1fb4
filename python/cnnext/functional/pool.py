"""Pooling.

Training keeps one byte a window, the argmax as tap number. Backward scatters by it; gathering is the gradient
of that.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..tape import defvjp, primitive
from ..tensor import Tensor
from ._common import as_tensor, batched, records, through_float32, unbatched

# `window` is a dict of ops.max_pool2d's kernel_size, stride, padding, dilation and ceil_mode.


@primitive
def _max_pool2d(x: Any, *, window: dict, kind: str) -> Any:
    return ops.max_pool2d(x, **window, return_indices=True, indices=kind)


@primitive
def _max_pool2d_backward(
    grad_y: Any, indices: Any, *, shape: tuple[int, ...], window: dict, kind: str
) -> Any:
    return ops.max_pool2d_backward(grad_y, indices, shape, **window, indices_kind=kind)


@primitive
def _max_pool2d_gather(x: Any, indices: Any, *, window: dict, kind: str) -> Any:
    return through_float32(ops.max_pool2d_gather, x, indices, **window, indices_kind=kind)


defvjp(
    _max_pool2d,
    lambda g, out1, shapes, window, kind: _max_pool2d_backward(
        g, out1, shape=shapes[0], window=window, kind=kind
    ),
)
defvjp(
    _max_pool2d_backward,
    lambda g, indices, window, kind: _max_pool2d_gather(g, indices, window=window, kind=kind),
)
defvjp(
    _max_pool2d_gather,
    lambda g, indices, shapes, window, kind: _max_pool2d_backward(
        g, indices, shape=shapes[0], window=window, kind=kind
    ),
)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Differentiable cnnext.ops.max_pool2d (torch.nn.functional.max_pool2d).

    With return_indices the pair (y, indices), int64, h * W + w within the plane.
    """
    x, single = batched(x)
    window = {
        "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation,
        "ceil_mode": ceil_mode,
    }  # fmt: skip
    if return_indices:
        y, indices = _max_pool2d(x, window=window, kind="plane")
        return unbatched(y, single), unbatched(indices, single)
    if records(x):
        return unbatched(_max_pool2d(x, window=window, kind="window")[0], single)
    return unbatched(as_tensor(ops.max_pool2d(x.data, **window)), single)


@primitive
def _max_unpool2d(
    x: Any, indices: Any, *, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Any:
    return through_float32(ops.max_unpool2d, x, indices, kernel_size, stride, padding, output_size)


@primitive
def _max_unpool2d_backward(grad_y: Any, indices: Any, *, kernel_size: Any, stride: Any, padding: Any) -> Any:
    return through_float32(ops.max_unpool2d_backward, grad_y, indices, kernel_size, stride, padding)


defvjp(
    _max_unpool2d,
    lambda g, indices, kernel_size, stride, padding: _max_unpool2d_backward(
        g, indices, kernel_size=kernel_size, stride=stride, padding=padding
    ),
)
defvjp(
    _max_unpool2d_backward,
    lambda g, indices, kernel_size, stride, padding, shapes: _max_unpool2d(
        g, indices, kernel_size=kernel_size, stride=stride, padding=padding, output_size=shapes[0][-2:]
    ),
)


def max_unpool2d(
    x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Differentiable cnnext.ops.max_unpool2d (torch's, too); indices as max_pool2d returns them."""
    x, single = batched(x)
    indices = as_tensor(indices)
    if single and indices.ndim == 3:
        indices = indices.unsqueeze(0)
    y = _max_unpool2d(
        x, indices, kernel_size=kernel_size, stride=stride, padding=padding, output_size=output_size
    )
    return unbatched(y, single)


# `window` below is a dict of ops.avg_pool2d's arguments after x.


@primitive
def _avg_pool2d(x: Any, *, window: dict) -> Any:
    return through_float32(ops.avg_pool2d, x, **window)


@primitive
def _avg_pool2d_backward(grad_y: Any, *, shape: tuple[int, ...], window: dict) -> Any:
    return through_float32(ops.avg_pool2d_backward, grad_y, shape, **window)


@primitive
def _adaptive_avg_pool2d(x: Any, *, output_size: Any) -> Any:
    return through_float32(ops.adaptive_avg_pool2d, x, output_size)


@primitive
def _adaptive_avg_pool2d_backward(grad_y: Any, *, shape: tuple[int, ...]) -> Any:
    return through_float32(ops.adaptive_avg_pool2d_backward, grad_y, shape)


defvjp(_avg_pool2d, lambda g, shapes, window: _avg_pool2d_backward(g, shape=shapes[0], window=window))
defvjp(_avg_pool2d_backward, lambda g, window: _avg_pool2d(g, window=window))
defvjp(_adaptive_avg_pool2d, lambda g, shapes: _adaptive_avg_pool2d_backward(g, shape=shapes[0]))
defvjp(
    _adaptive_avg_pool2d_backward,
    lambda g, shapes: _adaptive_avg_pool2d(g, output_size=tuple(shapes[0][-2:])),
)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Differentiable cnnext.ops.avg_pool2d (torch.nn.functional.avg_pool2d)."""
    x, single = batched(x)
    window = {
        "kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad, "divisor_override": divisor_override,
    }  # fmt: skip
    return unbatched(_avg_pool2d(x, window=window), single)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """Differentiable cnnext.ops.adaptive_avg_pool2d (torch.nn.functional.adaptive_avg_pool2d)."""
    x, single = batched(x)
    return unbatched(_adaptive_avg_pool2d(x, output_size=output_size), single)
