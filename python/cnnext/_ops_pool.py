"""Pools and their indices on arrays."""

from __future__ import annotations

from collections.abc import Sequence

from . import _C
from ._arrays import Array, Padding, Pair, is_empty, shape_of


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: str = "plane",
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """The maximum of every window, with its index if asked for: torch.nn.functional.max_pool2d.

    x: (N, C, H, W) or (C, H, W), any float, uint8 or int8. stride None: kernel_size. The result:
    y (N, C, P, Q), or (y, indices). Padding counts as -inf and is never chosen; ties go to the first in
    row-major order; NaN wins. padding as int or (h, w) is at most half the effective kernel, side by
    side less than it.
    indices: "plane", int64, h*W + w (torch's); "window", the tap r*S + s in the smallest of uint8, uint16 and
    int32.
    """
    return _C.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, out)


def max_pool2d_backward(
    grad_y: Array,
    indices: Array,
    input_shape: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    indices_kind: str = "plane",
    out: Array | None = None,
) -> Array:
    """The gradient of max_pool2d's x, of input_shape. indices as max_pool2d returned them, range-checked."""
    return _C.max_pool2d_backward(
        grad_y, indices, input_shape, kernel_size, stride, padding, dilation, ceil_mode, indices_kind, out
    )


def max_pool2d_gather(
    x: Array,
    indices: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    indices_kind: str = "plane",
    out: Array | None = None,
) -> Array:
    """x (N, C, H, W) read at max_pool2d's indices (N, C, P, Q): the adjoint of max_pool2d_backward."""
    return _C.max_pool2d_gather(
        x, indices, kernel_size, stride, padding, dilation, ceil_mode, indices_kind, out
    )


def _unpool_shape(
    shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    output_size: Sequence[int] | None,
) -> tuple[int, ...]:
    """The shape of max_unpool2d's result, as torch: output_size lies within a stride of the default."""
    if len(shape) not in (3, 4):
        raise ValueError(f"x has shape {shape}; it must be (N, C, H, W) or (C, H, W)")
    kernel = _C.parse_pair(kernel_size, "kernel_size")
    step = kernel if stride is None or is_empty(stride) else _C.parse_pair(stride, "stride")
    pads = _C.parse_padding(padding)
    default = tuple(
        (size - 1) * s + k - sum(pad) for size, k, s, pad in zip(shape[-2:], kernel, step, pads, strict=True)
    )
    if output_size is None:
        if min(default) < 0:
            raise ValueError(f"padding is {padding}; it leaves a result of {default[0]} x {default[1]}")
        return (*shape[:-2], *default)
    wanted = tuple(output_size)
    if len(wanted) not in (2, len(shape)):
        raise ValueError(
            f"output_size has {len(wanted)} values; it must be (h, w), or the result's whole shape"
        )
    wanted = _C.parse_pair(wanted[-2:], "output_size")
    for axis, size, usual, s in zip("hw", wanted, default, step, strict=True):
        if not max(usual - s, -1) < size < usual + s:
            raise ValueError(
                f"output_size is {wanted}; its {axis} must be more than {usual - s} and less than {usual + s}"
            )
    return (*shape[:-2], *wanted)


def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    output_size: Sequence[int] | None = None,
    *,
    indices_kind: str = "plane",
    out: Array | None = None,
) -> Array:
    """Zeros with x written at the indices: torch.nn.functional.max_unpool2d.

    x, indices: (N, C, P, Q) or (C, P, Q). output_size: (H, W), less than one stride from the default
    (P - 1)*stride + kernel - padding, or a whole shape. Of values at one place the last in row-major order
    stays; an index of -1 (all ones for "window") writes nothing; others out of range are a ValueError.
    """
    shape = _unpool_shape(shape_of(x, "x"), kernel_size, stride, padding, output_size)
    return _C.max_unpool2d(x, indices, kernel_size, stride, padding, shape, indices_kind, out)


def max_unpool2d_backward(
    grad_y: Array,
    indices: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    indices_kind: str = "plane",
    out: Array | None = None,
) -> Array:
    """The gradient of max_unpool2d's x: grad_y (N, C, H, W) read at the indices (N, C, P, Q)."""
    return _C.max_pool2d_gather(grad_y, indices, kernel_size, stride, padding, 1, False, indices_kind, out)


def convert_indices(
    indices: Array,
    input_shape: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    source: str,
    target: str,
) -> Array:
    """max_pool2d's indices in another form. The parameters and input_shape (N, C, H, W) are the pool's.

    Kinds: "plane" (torch's), "window" (the tap number), "onnx" (into the whole flattened tensor),
    "onnx_column_major" (the same with h and w exchanged: ONNX's storage_order 1).
    """
    return _C.convert_indices(
        indices, input_shape, kernel_size, stride, padding, dilation, ceil_mode, source, target
    )


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Pair = 1,
    out: Array | None = None,
) -> Array:
    """The mean of every window: torch.nn.functional.avg_pool2d, with dilation.

    x: (N, C, H, W) or (C, H, W), float32 or float64. count_include_pad: padding counts in the divisor.
    divisor_override: divide by this instead.
    """
    return _C.avg_pool2d(
        x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
    )


def avg_pool2d_backward(
    grad_y: Array,
    input_shape: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Pair = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of avg_pool2d's x, of input_shape."""
    return _C.avg_pool2d_backward(
        grad_y, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
        dilation, out,
    )  # fmt: skip


def adaptive_avg_pool2d(
    x: Array, output_size: int | Sequence[int | None] | None, *, out: Array | None = None
) -> Array:
    """Means over windows that divide x evenly into output_size: torch.nn.functional.adaptive_avg_pool2d.

    x: (N, C, H, W) or (C, H, W). output_size: an int, or (h, w); None keeps x's size of that axis.
    """
    pair = list(output_size) if isinstance(output_size, Sequence | tuple) else [output_size] * 2
    sizes = _C.parse_pair([1 if size is None else size for size in pair], "output_size")
    if min(sizes) < 0:
        raise ValueError(f"output_size is {output_size}; it must be at least 0, or None for x's size")
    keep = -1
    sizes = tuple(keep if given is None else size for given, size in zip(pair, sizes, strict=True))
    return _C.adaptive_avg_pool2d(x, sizes, out)


def adaptive_avg_pool2d_backward(
    grad_y: Array, input_shape: Sequence[int], *, out: Array | None = None
) -> Array:
    """The gradient of adaptive_avg_pool2d's x, of input_shape."""
    return _C.adaptive_avg_pool2d_backward(grad_y, input_shape, out)
