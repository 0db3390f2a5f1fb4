"""cnnext, and its plain loops as an oracle."""

from __future__ import annotations

from typing import Any

import cnnext
import numpy as np
from cnnext import ops, testing

from bench.libraries import Array, Call, Operands
from bench.shapes import Layer


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

    def kernel(self) -> str:
        return testing.last_kernel()

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        x, w, grad = operands["x"], operands.get("w"), operands["grad"]
        if layer.kind == "conv":
            shared = (layer.stride, layer.padding, layer.dilation, layer.groups)
            if algorithm == "packed":
                if which != "fwd":
                    raise ValueError("packed weights are the forward's")
                packed = ops.pack_weight(w, *shared, input_shape=x.shape, channels_last=operands["nhwc"])
                return lambda: ops.conv2d(x, packed, None, *shared)
            if which == "fwd":
                return lambda: ops.conv2d(x, w, None, *shared, algorithm=algorithm)
            if which == "bwd_data":
                return lambda: ops.conv2d_backward_data(grad, w, x.shape, *shared, algorithm=algorithm)
            return lambda: ops.conv2d_backward_weights(grad, x, w.shape, *shared, algorithm=algorithm)
        window = ((layer.R, layer.S), layer.stride, layer.padding)
        if layer.kind == "avg_pool":
            if which == "fwd":
                return lambda: ops.avg_pool2d(x, *window)
            return lambda: ops.avg_pool2d_backward(grad, x.shape, *window)
        if which == "fwd":
            return lambda: ops.max_pool2d(x, *window, layer.dilation, False, True, indices="window")
        _, taps = ops.max_pool2d(x, *window, layer.dilation, False, True, indices="window")
        return lambda: ops.max_pool2d_backward(
            grad, taps, x.shape, *window, layer.dilation, indices_kind="window"
        )

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        if layer.kind != "max_pool" or which != "fwd":
            return {"result": returned}
        values, taps = returned
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
