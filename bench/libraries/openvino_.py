"""OpenVINO on the CPU: a graph of one operation in float32, its weights constants, its output array kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset14

from bench.libraries import Array, Call, Operands
from bench.shapes import Layer


def model_of(layer: Layer, weight: np.ndarray | None) -> openvino.Model:
    x = opset14.parameter(layer.x_shape, np.float32)
    pads = [list(layer.padding)] * 2
    if weight is not None:
        geometry = (list(layer.stride), *pads, list(layer.dilation))
        if layer.groups == 1:
            return openvino.Model([opset14.convolution(x, opset14.constant(weight), *geometry)], [x])
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        return openvino.Model([opset14.group_convolution(x, opset14.constant(grouped), *geometry)], [x])
    kernel = [layer.R, layer.S]
    if layer.kind == "avg_pool":
        return openvino.Model([opset14.avg_pool(x, list(layer.stride), *pads, kernel, False)], [x])
    pool = opset14.max_pool(
        x, list(layer.stride), list(layer.dilation), *pads, kernel, index_element_type="i64", axis=2
    )
    return openvino.Model(pool.outputs(), [x])


class OpenVino:
    def __init__(self, threads: int) -> None:
        self.core = openvino.Core()
        self.settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }

    def describe(self) -> dict[str, Any]:
        return {"library": "openvino", "version": openvino.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        return values

    def kernel(self) -> str:
        return ""

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        model = model_of(layer, operands.get("w"))
        request = self.core.compile_model(model, "CPU", self.settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(operands["x"], shared_memory=True))
        outputs = []
        for number, output in enumerate(model.outputs):
            outputs.append(np.empty(layer.y_shape, output.element_type.to_dtype()))
            request.set_output_tensor(number, openvino.Tensor(outputs[-1], shared_memory=True))

        def run() -> list[np.ndarray]:
            request.infer()
            return outputs

        return run

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        return dict(zip(("result", "indices"), returned, strict=False))
