"""ONNX Runtime: a model of one node, its weights constants, its output written into a bound array."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.libraries import Array, Call, Operands
from bench.shapes import Layer

OPERATORS = {"conv": "Conv", "max_pool": "MaxPool", "avg_pool": "AveragePool"}
OPSET = 19  # dilations of AveragePool


def model_of(layer: Layer, weight: np.ndarray | None) -> onnx.ModelProto:
    attributes: dict[str, Any] = {
        "kernel_shape": [layer.R, layer.S],
        "strides": list(layer.stride),
        "pads": [*layer.padding, *layer.padding],
        "dilations": list(layer.dilation),
    }
    if layer.kind == "conv":
        attributes["group"] = layer.groups
    if layer.kind == "avg_pool":
        attributes["count_include_pad"] = 1
    names = ["y", "indices"] if layer.kind == "max_pool" else ["y"]
    constants = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    node = helper.make_node(OPERATORS[layer.kind], ["x", *(c.name for c in constants)], names, **attributes)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x_shape)
    outputs = [
        helper.make_tensor_value_info(name, kind, layer.y_shape)
        for name, kind in zip(names, (TensorProto.FLOAT, TensorProto.INT64), strict=False)
    ]
    graph = helper.make_graph([node], layer.kind, [image], outputs, constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=helper.find_min_ir_version_for(opset))


class OnnxRuntime:
    def __init__(self, threads: int) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def describe(self) -> dict[str, Any]:
        return {"library": "onnxruntime", "version": onnxruntime.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        return values

    def kernel(self) -> str:
        return ""

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        model = model_of(layer, operands.get("w")).SerializeToString()
        session = onnxruntime.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("x", operands["x"])
        outputs = []
        for output in session.get_outputs():
            dtype = np.int64 if output.type == "tensor(int64)" else np.float32
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(layer.y_shape, dtype)
            binding.bind_ortvalue_output(output.name, value)
            outputs.append(value)

        def run() -> list[onnxruntime.OrtValue]:
            session.run_with_iobinding(binding)
            return outputs

        return run

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        found = dict(zip(("result", "indices"), (value.numpy() for value in returned), strict=False))
        if "indices" in found:  # ONNX counts over the whole tensor
            found["indices"] = found["indices"] % (layer.H * layer.W)
        return found
