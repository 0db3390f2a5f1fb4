"""Several operations in one, without the results between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _C
from ._arrays import Array, Padding, Pair, parse_needs

if TYPE_CHECKING:
    from ._C import PackedWeight


def conv2d_relu_max_pool2d(
    x: Array,
    weight: Array | PackedWeight,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    pool_size: Pair,
    pool_stride: Pair | None = None,
    pool_padding: Padding = 0,
    return_codes: bool = True,
) -> tuple[Array, Array] | Array:
    """max_pool2d(relu(conv2d(x, weight) + bias)) and where its maxima come from: all that training keeps.

    The convolution's result is computed in strips that stay in a cache and is never in memory as a whole.
    x, weight, bias, stride, padding, dilation and groups: as conv2d's. pool_size, pool_stride (None:
    pool_size) and pool_padding: as max_pool2d's. The result: (y, codes), y (N, K, P, Q); codes of y's shape,
    the tap r*S + s of each window's maximum in the smallest of uint8, uint16 and int32, or all ones where the
    ReLU stops it (y is 0) or the window has no tap. return_codes=False: y alone.
    dtypes: float32 or float64 (by the reference, whose inner results are whole). torch: the three functions.
    """
    return _C.conv2d_relu_max_pool2d(
        x, weight, bias, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding, return_codes
    )


def conv2d_relu_max_pool2d_backward(
    grad_y: Array,
    codes: Array,
    x: Array,
    weight: Array,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    pool_size: Pair,
    pool_stride: Pair | None = None,
    pool_padding: Padding = 0,
    needs: Sequence[bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of conv2d_relu_max_pool2d's x, weight and bias, None where `needs` says so.

    codes: as it returned them, range-checked. The convolution's gradient is in scratch for some images at a
    time. grad_x has grad_y's format.
    """
    return _C.conv2d_relu_max_pool2d_backward(
        grad_y, codes, x, weight, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding,
        *parse_needs(needs),
    )  # fmt: skip


def conv2d_batch_norm(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    norm_weight: Array | None = None,
    norm_bias: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    return_saved: bool = True,
) -> tuple[Array, Array, Array, Array] | Array:
    """batch_norm(conv2d(x, weight) + bias) in training, and what its backward needs.

    Where it pays (docs/ALGORITHMS.md) the batch's statistics are taken of some images of the convolution's
    result while they are in a cache, which reads it from memory one time less; else, and for float64, it is
    the two one after the other. Equal to them to rounding.
    x (N, C, H, W), weight, bias, stride, padding, dilation and groups: as conv2d's. norm_weight, norm_bias
    and the running statistics (K,), which are updated in place, momentum and eps: as batch_norm's.
    activation: "relu" or "relu6" of y, in the same pass.
    The result: (y, conv_y, mean, 1/sqrt(var + eps)); y and the convolution's result conv_y (N, K, P, Q), the
    others (K,): what batch_norm_backward, and behind it conv2d_backward, take. return_saved=False: y alone,
    whose memory then serves for the convolution's result.
    dtypes: float32 or float64. ValueError for fewer than two values a channel. torch: the functions, with
    training=True.
    """
    return _C.conv2d_batch_norm(
        x, weight, bias, stride, padding, dilation, groups, running_mean, running_var, norm_weight, norm_bias,
        momentum, eps, activation, return_saved,
    )  # fmt: skip
