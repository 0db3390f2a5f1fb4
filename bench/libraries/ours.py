"""cnnext, and its plain loops as an oracle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cnnext
import numpy as np
from cnnext import ops, testing

from bench.libraries import Array, Call, Operands
from bench.shapes import FUSED, POINTWISE, Layer


def allow_tf32(dtype: str) -> None:
    """For "tf32" alone, on a device, and where this cnnext has the setting; else it computes in float32."""
    if hasattr(cnnext, "set_float32_matmul_precision"):
        cnnext.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")


class Cnnext:
    def __init__(self, threads: int) -> None:
        cnnext.set_num_threads(threads)

    def describe(self) -> dict[str, Any]:
        info = cnnext.info()
        return {"library": "cnnext", "version": info.version, "isa": info.isa, "build": info.build}

    def array(self, values: np.ndarray, layout: str) -> Array:
        if layout == "nchw":
            return values
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def vector(self, values: np.ndarray) -> Array:
        """Values for each channel, in x's dtype."""
        return values

    def host(self, value: Array) -> np.ndarray:
        return value

    def kept(self, call: Callable[..., Any]) -> Call:
        """A call that has the argument `out`. Here results are new ones, from cnnext's pool."""
        return call

    def kernel(self) -> str:
        return testing.last_kernel()

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        x, w, grad = operands["x"], operands.get("w"), operands["grad"]
        kept = self.kept
        if layer.kind == "conv":
            shared = (layer.stride, layer.padding, layer.dilation, layer.groups)
            if algorithm == "packed":
                if which != "fwd":
                    raise ValueError("packed weights are the forward's")
                packed = ops.pack_weight(w, *shared, input_shape=x.shape, channels_last=operands["nhwc"])
                return lambda: ops.conv2d(x, packed, None, *shared)
            if which == "fwd":
                return kept(partial(ops.conv2d, x, w, None, *shared, algorithm=algorithm))
            if which == "bwd_data":
                return kept(partial(ops.conv2d_backward_data, grad, w, x.shape, *shared, algorithm=algorithm))
            return kept(partial(ops.conv2d_backward_weights, grad, x, w.shape, *shared, algorithm=algorithm))
        if layer.kind == "conv_relu_pool":
            shared = (layer.stride, layer.padding, layer.dilation, layer.groups)
            pool = {f"pool_{name}": getattr(layer, f"pool_{name}") for name in ("stride", "padding")}
            pool["pool_size"] = layer.pool
            if which == "fwd":
                return lambda: ops.conv2d_relu_max_pool2d(x, w, None, *shared, **pool)
            _, codes = ops.conv2d_relu_max_pool2d(x, w, None, *shared, **pool)
            return lambda: ops.conv2d_relu_max_pool2d_backward(grad, codes, x, w, *shared, **pool)
        if layer.kind == "conv_norm_relu":
            return self._conv_norm_relu(layer, operands, which)
        if layer.kind in POINTWISE:
            return self._pointwise(layer, x, grad, which)
        window = ((layer.R, layer.S), layer.stride, layer.padding)
        if layer.kind == "avg_pool":
            if which == "fwd":
                return kept(partial(ops.avg_pool2d, x, *window))
            return kept(partial(ops.avg_pool2d_backward, grad, x.shape, *window))
        if which == "fwd":
            return kept(partial(ops.max_pool2d, x, *window, layer.dilation, False, True, indices="window"))
        _, taps = ops.max_pool2d(x, *window, layer.dilation, False, True, indices="window")
        backward = partial(ops.max_pool2d_backward, grad, taps, x.shape, *window, layer.dilation)
        return kept(partial(backward, indices_kind="window"))

    def _conv_norm_relu(self, layer: Layer, operands: Operands, which: str) -> Call:
        x, w, grad = operands["x"], operands["w"], operands["grad"]
        shared = (layer.stride, layer.padding, layer.dilation, layer.groups)
        weight = self.vector(np.linspace(0.5, 1.5, layer.K, dtype=np.float32))

        def forward() -> Any:
            return ops.conv2d_batch_norm(
                x, w, None, *shared, norm_weight=weight, norm_bias=weight, activation="relu"
            )

        if which == "fwd":
            return forward
        y, conv_y, *saved = forward()

        def backward() -> Any:
            inner, *_ = ops.batch_norm_backward(grad, conv_y, weight, *saved, y=y)
            return ops.conv2d_backward(inner, x, w, *shared, needs=(True, True, False))

        return backward

    def _pointwise(self, layer: Layer, x: Array, grad: Array, which: str) -> Call:
        if layer.kind == "add":
            return self.kept(partial(ops.add, x, grad))
        if layer.kind == "relu":
            if which == "fwd":
                return self.kept(partial(ops.relu, x))
            return self.kept(partial(ops.activation_backward, grad, x, "relu"))
        if layer.kind == "softmax":
            y = ops.softmax(x, 1)
            if which == "fwd":
                return self.kept(partial(ops.softmax, x, 1))
            return partial(ops.softmax_backward, grad, y, 1)
        weight = self.vector(np.linspace(0.5, 1.5, layer.C, dtype=np.float32))
        if which == "fwd":
            return lambda: ops.batch_norm_forward(x, None, None, weight, weight)
        _, *saved = ops.batch_norm_forward(x, None, None, weight, weight)
        return lambda: ops.batch_norm_backward(grad, x, weight, *saved)

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        if layer.kind in ("batch_norm", *FUSED):  # the output, or x's gradient
            return {"result": self.host(returned[0])}
        if layer.kind != "max_pool" or which != "fwd":
            return {"result": self.host(returned)}
        values, taps = map(self.host, returned)
        window = ((layer.R, layer.S), layer.stride, layer.padding, layer.dilation)
        places = ops.convert_indices(taps, layer.x_shape, *window, source="window", target="plane")
        return {"result": values, "indices": places}


class Reference(Cnnext):
    """The oracle where torch is not installed."""

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        def run() -> Any:
            with testing.backend("ref"):
                return Cnnext.call(self, layer, operands, which, "auto")()

        return run
