"""Small ONNX files for tests of reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

WEIGHT = {"w": np.ones((2, 4, 3, 3), np.float32)}


def saved(
    path: Path,
    nodes: list[Any],
    arrays: dict[str, np.ndarray] | None = None,
    opset: int = 20,
    shape: tuple[Any, ...] = ("N", 4, 8, 8),
    sparse: tuple[Any, ...] = (),
) -> Path:
    """A graph from x, float32 of `shape`, to y."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (arrays or {}).items()]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(shape))
    graph = onnx.helper.make_graph(nodes, "graph", [x], [output], tensors)
    graph.sparse_initializer.extend(sparse)
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("mine", 1)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


def node(op: str, *inputs: str, **attributes: Any) -> Any:
    """A node from `inputs`, or x, to y."""
    return onnx.helper.make_node(op, inputs or ["x"], ["y"], "the node", **attributes)
