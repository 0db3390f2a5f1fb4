"""PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.libraries import Array, Call, Operands
from bench.shapes import FUSED, POINTWISE, Layer


class Torch:
    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def describe(self) -> dict[str, Any]:
        return {"library": "torch", "version": torch.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        tensor = torch.from_numpy(values.copy())
        return tensor.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else tensor

    def vector(self, values: np.ndarray) -> Array:
        """float32 values, one for each channel."""
        return torch.from_numpy(values)

    def host(self, value: Array) -> np.ndarray:
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).cpu().numpy()

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
        if layer.kind in FUSED:
            return self._block(layer, operands, which)
        if layer.kind in POINTWISE:
            return self._pointwise(layer, x, grad, which)
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

    def _block(self, layer: Layer, operands: Operands, which: str) -> Call:
        functional, x, w = torch.nn.functional, operands["x"], operands["w"]
        affine = self.vector(np.linspace(0.5, 1.5, layer.K, dtype=np.float32))

        def block() -> Any:
            y = functional.conv2d(x, w, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            if layer.kind == "conv_norm_relu":
                return functional.batch_norm(y, None, None, affine, affine, training=True).relu_()
            return functional.max_pool2d(
                y.relu_(), layer.pool, layer.pool_stride, layer.pool_padding, return_indices=True
            )[0]

        if which == "fwd":
            return block
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        with torch.enable_grad():
            y = block()
        return lambda: torch.autograd.grad(y, (x, w), operands["grad"], retain_graph=True)

    def _pointwise(self, layer: Layer, x: Any, grad: Any, which: str) -> Call:
        aten, fwd = torch.ops.aten, which == "fwd"
        if layer.kind == "add":
            return lambda: x + grad
        if layer.kind == "relu":
            return (lambda: torch.relu(x)) if fwd else lambda: aten.threshold_backward(grad, x, 0)
        if layer.kind == "softmax":
            y = torch.softmax(x, 1)
            return (
                (lambda: torch.softmax(x, 1))
                if fwd
                else lambda: aten._softmax_backward_data(grad, y, 1, x.dtype)
            )
        weight = self.vector(np.linspace(0.5, 1.5, layer.C, dtype=np.float32))
        if fwd:
            return lambda: torch.native_batch_norm(x, weight, weight, None, None, True, 0.1, 1e-5)
        _, *saved = torch.native_batch_norm(x, weight, weight, None, None, True, 0.1, 1e-5)
        return lambda: aten.native_batch_norm_backward(
            grad, x, weight, None, None, *saved, True, 1e-5, [True, True, True]
        )

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        names = ("result", "indices")
        values = returned if isinstance(returned, tuple) else (returned,)
        if layer.kind in ("batch_norm", *FUSED):  # the output, or x's gradient
            values = values[:1]
        return {name: self.host(value) for name, value in zip(names, values, strict=False)}
