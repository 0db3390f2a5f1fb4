"""Convolution, transposed convolution and linear on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _C
from ._arrays import Array, Padding, Pair, batched, parse_needs, shape_of

if TYPE_CHECKING:
    from ._C import PackedWeight


def conv2d(
    x: Array,
    weight: Array | PackedWeight,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    residual: Array | None = None,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """activation(conv(x, weight) + bias + residual): torch.nn.functional.conv2d, its fused ends keyword-only.

    x: (N, C, H, W) or (C, H, W), contiguous or channels-last; the result has x's format and library.
    weight: (K, C/groups, R, S), or what pack_weight() made of it. bias: (K,). residual: as the result.
    padding: an int, (h, w), ((top, bottom), (left, right)), "valid", or "same" (out = ceil(in / stride),
        an odd total puts the extra at the end).
    activation: None, "relu", "relu6", "leaky_relu" (slope 0.01), "gelu", "gelu_tanh", "silu", "sigmoid",
        "tanh".
    algorithm: "auto", or "direct" for no transformed algorithm.
    out: an array to write, of the result's shape and dtype; it may overlap the inputs.
    dtypes: float32, float64, float16 or bfloat16 (ml_dtypes', torch's, JAX's), one for all. 16-bit values are
        summed in float32 and rounded once; on processors with AVX512_BF16 subnormal bfloat16 counts as 0.
    Raises ValueError for shapes and sizes, TypeError for kinds and dtypes.
    """
    return _C.conv2d(x, weight, bias, stride, padding, dilation, groups, activation, residual, algorithm, out)


def pack_weight(
    weight: Array,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    input_shape: Sequence[int] | None = None,
    channels_last: bool = False,
) -> PackedWeight:
    """weight (K, C/groups, R, S) in the order that conv2d's kernels read, for repeated calls.

    It holds a copy: later changes of the array do not reach it. Pass the convolution's parameters here and to
    conv2d. input_shape (N, C, H, W) and channels_last say what it will meet; other inputs work, slower.
    """
    return _C.pack_weight(weight, stride, padding, dilation, groups, input_shape, channels_last)


def conv2d_backward(
    grad_y: Array,
    x: Array,
    weight: Array,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    needs: Sequence[bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of conv2d's x, weight and bias, None where `needs` says so.

    grad_y: (N, K, P, Q) or (K, P, Q), the gradient of conv2d's result. torch: aten::convolution_backward.
    """
    need_x, need_weight, need_bias = parse_needs(needs)
    grad_x = grad_weight = grad_bias = None
    if need_x:
        shape = shape_of(x, "x")
        grad_x = _C.conv2d_backward_data(
            grad_y, weight, shape, stride, padding, dilation, groups, "auto", None
        )
    if need_weight:
        shape = shape_of(weight, "weight")
        grad_weight = _C.conv2d_backward_weights(
            grad_y, x, shape, stride, padding, dilation, groups, "auto", None
        )
    if need_bias:
        unbatched = len(shape_of(grad_y, "grad_y")) == 3
        grad_bias = _C.bias_grad(batched(grad_y) if unbatched else grad_y, None)
    return grad_x, grad_weight, grad_bias


def conv2d_backward_data(
    grad_y: Array,
    weight: Array,
    input_shape: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """The gradient of conv2d's x, of input_shape (N, C, H, W) or (C, H, W), in grad_y's format.

    torch: torch.nn.grad.conv2d_input. Parameters as conv2d's.
    """
    return _C.conv2d_backward_data(
        grad_y, weight, input_shape, stride, padding, dilation, groups, algorithm, out
    )


def conv2d_backward_weights(
    grad_y: Array,
    x: Array,
    weight_shape: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """The gradient of conv2d's weight, of weight_shape (K, C/groups, R, S).

    torch: torch.nn.grad.conv2d_weight. Parameters as conv2d's.
    """
    return _C.conv2d_backward_weights(
        grad_y, x, weight_shape, stride, padding, dilation, groups, algorithm, out
    )


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """The adjoint of conv2d, plus bias: torch.nn.functional.conv_transpose2d.

    x: (N, C, H, W) or (C, H, W). weight: (C, K/groups, R, S). bias: (K,). The result: (N, K, P, Q) with
    P = (H - 1)*stride - top - bottom + dilation*(R - 1) + output_padding + 1. output_padding is smaller than
    stride or dilation.
    """
    return _C.conv_transpose2d(
        x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm, out
    )


def conv_transpose2d_backward(
    grad_y: Array,
    x: Array,
    weight: Array,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    needs: Sequence[bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of conv_transpose2d's x, weight and bias, None where `needs` says so."""
    need_x, need_weight, need_bias = parse_needs(needs)
    grad_x = grad_weight = grad_bias = None
    if need_x:
        grad_x = _C.conv_transpose2d_backward_data(
            grad_y, weight, stride, padding, output_padding, groups, dilation
        )
        if shape_of(grad_x, "grad_x") != shape_of(x, "x"):
            raise ValueError(
                f"grad_y has shape {shape_of(grad_y, 'grad_y')}; with these parameters it does not belong to "
                f"x of shape {shape_of(x, 'x')}"
            )
    if need_weight:
        shape = shape_of(weight, "weight")
        grad_weight = _C.conv_transpose2d_backward_weights(
            grad_y, x, shape, stride, padding, output_padding, groups, dilation
        )
    if need_bias:
        unbatched = len(shape_of(grad_y, "grad_y")) == 3
        grad_bias = _C.bias_grad(batched(grad_y) if unbatched else grad_y, None)
    return grad_x, grad_weight, grad_bias


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """activation(x weight^T + bias): torch.nn.functional.linear.

    x: (..., in), weight: (out, in), bias: (out,), the result: (..., out). dtypes: as conv2d's.
    """
    return _C.linear(x, weight, bias, activation, out)


def linear_backward(
    grad_y: Array, x: Array, weight: Array, *, needs: Sequence[bool] = (True, True, True)
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of linear's x, weight and bias, None where `needs` says so. grad_y: (..., out)."""
    need_x, need_weight, need_bias = parse_needs(needs)
    grad_x = _C.linear_backward_data(grad_y, weight, None) if need_x else None
    grad_weight = _C.linear_backward_weights(grad_y, x, None) if need_weight else None
    grad_bias = None
    if need_bias:
        shape = shape_of(grad_y, "grad_y")
        # A DeviceArray reshapes none but row-major ones.
        plain = type(grad_y) is _C.DeviceArray or not hasattr(grad_y, "reshape")
        rows = _C.contiguous(grad_y, False, None) if plain else grad_y
        count = 1
        for size in shape[:-1]:
            count *= size
        grad_bias = _C.bias_grad(rows.reshape((count, shape[-1])), None)
    return grad_x, grad_weight, grad_bias
