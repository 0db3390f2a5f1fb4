"""JAX on the CPU: compiled functions, gradients by vjp.

Channels-last images are (N,H,W,C) arrays, their filters (R,S,C,K).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.libraries import Array, Call, Operands
from bench.shapes import Layer


class Jax:
    def __init__(self, threads: int) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it may use processors
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        import jax

        self.jax = jax
        self.nhwc = False

    def describe(self) -> dict[str, Any]:
        return {"library": "jax", "version": self.jax.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        self.nhwc = layout == "nhwc"
        return self.jax.numpy.array(values.transpose(0, 2, 3, 1) if self.nhwc else values)

    def kernel(self) -> str:
        return ""

    def _operation(self, layer: Layer) -> Callable[..., Any]:
        lax = self.jax.lax
        pads = [(side, side) for side in layer.padding]
        if layer.kind == "conv":
            dimensions = ("NHWC", "HWIO", "NHWC") if self.nhwc else ("NCHW", "OIHW", "NCHW")
            return lambda x, w: lax.conv_general_dilated(
                x,
                w,
                layer.stride,
                pads,
                rhs_dilation=layer.dilation,
                dimension_numbers=dimensions,
                feature_group_count=layer.groups,
            )

        def over_image(pair: Any, other: Any) -> tuple:
            return (other, *pair, other) if self.nhwc else (other, other, *pair)

        window = (
            over_image((layer.R, layer.S), 1),
            over_image(layer.stride, 1),
            over_image(pads, (0, 0)),
            None,
            over_image(layer.dilation, 1),
        )
        if layer.kind == "avg_pool":
            area = layer.R * layer.S
            return lambda x: lax.reduce_window(x, 0.0, lax.add, *window) / area
        return lambda x: lax.reduce_window(x, -np.inf, lax.max, *window)

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        operation, vjp = self._operation(layer), self.jax.vjp
        x, grad = operands["x"], operands["grad"]
        inputs = [x]
        if layer.kind == "conv":
            w = operands["w"]  # (K,R,S,C) beside channels-last images
            inputs.append(self.jax.numpy.transpose(w, (1, 2, 3, 0)) if self.nhwc else w)
        if which == "fwd":
            compiled = self.jax.jit(operation)
            return lambda: compiled(*inputs).block_until_ready()
        place = 0 if which == "bwd_data" else 1

        def backward(inputs: list[Array], grad: Array) -> Array:
            def of_one(changing: Array) -> Array:
                return operation(*inputs[:place], changing, *inputs[place + 1 :])

            return vjp(of_one, inputs[place])[1](grad)[0]

        pull = self.jax.jit(backward)
        return lambda: pull(inputs, grad).block_until_ready()

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        values = np.asarray(returned)
        if self.nhwc:
            values = values.transpose((3, 2, 0, 1) if which == "bwd_weights" else (0, 3, 1, 2))
        return {"result": values}
