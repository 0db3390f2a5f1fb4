"""PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.libraries import Array, Call, Operands
from bench.shapes import Layer


class Torch:
    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def describe(self) -> dict[str, Any]:
        return {"library": "torch", "version": torch.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        tensor = torch.from_numpy(values.copy())
        return tensor.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else tensor

    def kernel(self) -> str:
        return ""

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        functional, aten = torch.nn.functional, torch.ops.aten
        x, w, grad = operands["x"], operands.get("w"), operands["grad"]
        stride, padding, dilation = list(layer.stride), list(layer.padding), list(layer.dilation)
        if layer.kind == "conv":
            if which == "fwd":
                return lambda: functional.conv2d(x, w, None, stride, padding, dilation, layer.groups)
            needs = [which == "bwd_data", which == "bwd_weights", False]
            place = needs.index(True)
            return lambda: aten.convolution_backward(
                grad, x, w, None, stride, padding, dilation, False, [0, 0], layer.groups, needs
            )[place]
        kernel = [layer.R, layer.S]
        if layer.kind == "avg_pool":
            if which == "fwd":
                return lambda: functional.avg_pool2d(x, kernel, stride, padding)
            return lambda: aten.avg_pool2d_backward(grad, x, kernel, stride, padding, False, True, None)
        if which == "fwd":
            return lambda: functional.max_pool2d(x, kernel, stride, padding, dilation, False, True)
        _, places = functional.max_pool2d(x, kernel, stride, padding, dilation, False, True)
        return lambda: aten.max_pool2d_with_indices_backward(
            grad, x, kernel, stride, padding, dilation, False, places
        )

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        names = ("result", "indices")
        values = returned if isinstance(returned, tuple) else (returned,)
        return {name: value.numpy() for name, value in zip(names, values, strict=False)}
