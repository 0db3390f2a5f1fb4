"""Convolution, ReLU and max-pool in one. Training keeps the input and one byte a window."""

from __future__ import annotations

from typing import Any

from .. import _C, ops
from ..grad_mode import mode
from ..tape import defvjp, primitive, wrap
from ..tensor import Tensor
from ._common import as_raw, batched, records, unbatched
from .conv import _conv2d_backward_data, _conv2d_backward_weights, bias_grad
from .pool import _max_pool2d_backward

# `geometry` is a dict of ops.conv2d's stride, padding, dilation and groups; `window` of pool_size,
# pool_stride and pool_padding.


@primitive
def _conv2d_relu_max_pool2d(x: Any, weight: Any, bias: Any, *, geometry: dict, window: dict) -> Any:
    return ops.conv2d_relu_max_pool2d(x, weight, bias, **geometry, **window)


def _rule(
    g: Any, out1: Any, x: Any, weight: Any, shapes: Any, geometry: dict, window: dict, wanted: Any
) -> tuple:
    if mode.enabled:
        return _rule_of_primitives(g, out1, x, weight, shapes, geometry, window, wanted)
    grads = ops.conv2d_relu_max_pool2d_backward(
        g.data, out1.data, as_raw(x), as_raw(weight), **geometry, **window, needs=wanted
    )
    return tuple(None if grad is None else wrap(grad) for grad in grads)


def _rule_of_primitives(
    g: Any, codes: Any, x: Any, weight: Any, shapes: Any, geometry: dict, window: dict, wanted: Any
) -> tuple:
    """The same step by step, so that it can be differentiated again. The codes know what the ReLU stopped."""
    shape = _C.plan_conv(
        "conv2d", shapes[0], shapes[1], geometry["stride"], geometry["padding"], geometry["dilation"],
        geometry["groups"], 0, False, None, "auto", False, "float32",
    )["y_shape"]  # fmt: skip
    pool = {name.removeprefix("pool_"): value for name, value in window.items()}
    pool["kernel_size"] = pool.pop("size")
    g = _max_pool2d_backward(g, codes, shape=shape, window=pool, kind="window")
    return (
        _conv2d_backward_data(g, weight, shape=shapes[0], geometry=geometry) if wanted[0] else None,
        _conv2d_backward_weights(g, x, shape=shapes[1], geometry=geometry) if wanted[1] else None,
        bias_grad(g) if wanted[2] else None,
    )


defvjp(_conv2d_relu_max_pool2d, joint=_rule)


def conv2d_relu_max_pool2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    pool_size: Any,
    pool_stride: Any = None,
    pool_padding: Any = 0,
) -> Tensor:
    """max_pool2d(relu(conv2d(x, weight, bias))), differentiable, without the results between them.

    Parameters as cnnext.ops.conv2d_relu_max_pool2d's; weight may be a PackedWeight where nothing is recorded.
    """
    x, single = batched(x)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    window = {"pool_size": pool_size, "pool_stride": pool_stride, "pool_padding": pool_padding}
    if records(x, weight, bias):
        y = _conv2d_relu_max_pool2d(x, weight, bias, geometry=geometry, window=window)[0]
    else:
        arrays = (x.data, as_raw(weight), as_raw(bias))
        y = wrap(ops.conv2d_relu_max_pool2d(*arrays, **geometry, **window, return_codes=False))
    return unbatched(y, single)
