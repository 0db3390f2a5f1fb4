"""Convolution with what follows it: ReLU and max-pool, or batch norm and ReLU or ReLU6."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C, ops
from ..autocast_mode import mode as autocast
from ..grad_mode import mode
from ..tape import defvjp, primitive, wrap
from ..tensor import Tensor
from ._common import as_raw, as_tensor, batched, note_update, records, unbatched
from .activation import activation_backward
from .conv import _conv2d, _conv2d_backward_data, _conv2d_backward_weights, bias_grad, conv2d
from .norm import _batch_norm_backward, batch_norm
from .pool import _max_pool2d_backward, max_pool2d

# `geometry` is a dict of ops.conv2d's stride, padding, dilation and groups; `window` of pool_size,
# pool_stride and pool_padding.


def _conv_gradients(g: Any, x: Any, weight: Any, shapes: Any, geometry: dict, wanted: Any) -> tuple:
    """Of x, weight and bias, of primitives; g: of the convolution's result."""
    return (
        _conv2d_backward_data(g, weight, shape=shapes[0], geometry=geometry) if wanted[0] else None,
        _conv2d_backward_weights(g, x, shape=shapes[1], geometry=geometry) if wanted[1] else None,
        bias_grad(g) if wanted[2] else None,
    )


# ---- ReLU and max-pool: training keeps the input and one byte a window ----


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
        geometry["groups"], 0, False, None, "auto", False, "float32", None,
    )["y_shape"]  # fmt: skip
    pool = {name.removeprefix("pool_"): value for name, value in window.items()}
    pool["kernel_size"] = pool.pop("size")
    g = _max_pool2d_backward(g, codes, shape=shape, window=pool, kind="window")
    return _conv_gradients(g, x, weight, shapes, geometry, wanted)


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
    Within autocast it is the three of them: the fused kernels are float32's.
    """
    if autocast.dtype is not None:
        y = conv2d(x, weight, bias, stride, padding, dilation, groups, activation="relu")
        return max_pool2d(y, pool_size, pool_stride, pool_padding)
    x, single = batched(x)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    window = {"pool_size": pool_size, "pool_stride": pool_stride, "pool_padding": pool_padding}
    if records(x, weight, bias):
        y = _conv2d_relu_max_pool2d(x, weight, bias, geometry=geometry, window=window)[0]
    else:
        arrays = (x.data, as_raw(weight), as_raw(bias))
        y = wrap(ops.conv2d_relu_max_pool2d(*arrays, **geometry, **window, return_codes=False))
    return unbatched(y, single)


# ---- batch norm in training and an activation: training keeps the input, the convolution's result and y ----


@primitive(nondiff=(1, 2, 3))
def _conv2d_batch_norm(
    x: Any, weight: Any, bias: Any, norm_weight: Any, norm_bias: Any, *, geometry: dict, norm: dict
) -> Any:
    return ops.conv2d_batch_norm(
        x, weight, bias, **geometry, **norm, norm_weight=norm_weight, norm_bias=norm_bias
    )


@primitive(nondiff=(1, 2, 3))
def _conv2d_batch_norm_activation(
    x: Any, weight: Any, bias: Any, norm_weight: Any, norm_bias: Any, *, geometry: dict, norm: dict,
    activation: str,
) -> Any:  # fmt: skip
    affine = {"norm_weight": norm_weight, "norm_bias": norm_bias}
    return ops.conv2d_batch_norm(x, weight, bias, **geometry, **norm, **affine, activation=activation)


def _norm_activation_rule(
    g: Any, out: Any, x: Any, weight: Any, bias: Any, norm_weight: Any, out1: Any, out2: Any, out3: Any,
    shapes: Any, geometry: dict, norm: dict, activation: str | None, wanted: Any,
) -> tuple:  # fmt: skip
    if mode.enabled:  # step by step, so that it can be differentiated again
        if activation:
            g = activation_backward(g, out, kind=activation, negative_slope=0.0)
        conv_y = _conv2d(x, weight, bias, geometry=geometry)  # out1 has no history
        g, *of_norm = _batch_norm_backward(g, conv_y, norm_weight, out2, out3, training=True, eps=norm["eps"])
        return (*_conv_gradients(g, x, weight, shapes, geometry, wanted), *of_norm)
    needs = (any(wanted[:3]), *wanted[3:])
    saved = [as_raw(a) for a in (g, out1, norm_weight, out2, out3)]
    grad, *of_norm = ops.batch_norm_backward(*saved, needs=needs, y=as_raw(out), activation=activation)
    of_conv: Any = (None, None, None)
    if needs[0]:
        of_conv = ops.conv2d_backward(grad, as_raw(x), as_raw(weight), **geometry, needs=wanted[:3])
    return tuple(None if grad is None else wrap(grad) for grad in (*of_conv, *of_norm))


def _norm_rule(
    g: Any, x: Any, weight: Any, bias: Any, norm_weight: Any, out1: Any, out2: Any, out3: Any,
    shapes: Any, geometry: dict, norm: dict, wanted: Any,
) -> tuple:  # fmt: skip
    arrays = (x, weight, bias, norm_weight, out1, out2, out3)
    return _norm_activation_rule(g, None, *arrays, shapes, geometry, norm, None, wanted)


defvjp(_conv2d_batch_norm, joint=_norm_rule)
defvjp(_conv2d_batch_norm_activation, joint=_norm_activation_rule)


def conv2d_batch_norm(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    running_mean: Any = None,
    running_var: Any = None,
    norm_weight: Any = None,
    norm_bias: Any = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
) -> Tensor:
    """batch_norm(conv2d(x, weight, bias)) in training, differentiable; activation: "relu" or "relu6".

    Parameters as cnnext.ops.conv2d_batch_norm's. The running statistics are updated in place. Within autocast
    it is the two of them: the fused kernels are float32's.
    """
    if autocast.dtype is not None:
        y = conv2d(x, weight, bias, stride, padding, dilation, groups)
        return batch_norm(
            y, running_mean, running_var, norm_weight, norm_bias, True, momentum, eps, activation=activation
        )
    x = as_tensor(x)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    arrays = (x, weight, bias, norm_weight, norm_bias)
    norm = {
        "running_mean": as_raw(running_mean),
        "running_var": as_raw(running_var),
        "momentum": momentum,
        "eps": eps,
    }
    if records(*arrays):
        options = {"geometry": geometry, "norm": norm}
        if activation:
            y = _conv2d_batch_norm_activation(*arrays, **options, activation=activation)[0]
        else:
            y = _conv2d_batch_norm(*arrays, **options)[0]
    else:
        *conv, norm_weight, norm_bias = map(as_raw, arrays)
        rest = {"norm_weight": norm_weight, "norm_bias": norm_bias, "activation": activation}
        y = wrap(ops.conv2d_batch_norm(*conv, **geometry, **norm, **rest, return_saved=False))
    note_update(running_mean, running_var)
    return y


def is_one_with_pool(x: Any) -> bool:
    """Is there one operation for convolution, ReLU and max-pool, where the array is?"""
    if x.dtype not in (np.float32, np.float64):
        return False
    on_host = isinstance(x, np.ndarray)
    return on_host or _C.op_supported("cuda", "conv2d_relu_max_pool2d_forward", x.dtype.name)
