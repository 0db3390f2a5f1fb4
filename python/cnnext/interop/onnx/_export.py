"""A model of cnnext.nn as an ONNX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ... import _C
from ...devices import is_on_device
from ...dtypes import is_floating
from ...nn import Module
from ...tensor import as_array
from . import _rules, _rules_ops  # noqa: F401 - they fill the table
from ._builder import Builder
from ._trace import trace

_LIMIT = (1 << 31) - (1 << 20)  # bytes that one protobuf message holds
_IR_VERSIONS = {20: 9, 21: 10}  # by opset: the oldest format that may hold it


def _value_info(name: str, dtype: Any, sizes: tuple[int, ...]) -> Any:
    batch = ["N" if n == -1 else n for n in sizes]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), batch)


def _rename(nodes: list[Any], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _name_outputs(builder: Builder, outputs: list[Any]) -> list[str]:
    """The graph's outputs under names of their own: y, or y0, y1, ..."""
    made = {name for node in builder.nodes for name in node.output}
    names: list[str] = []
    for i, value in enumerate(outputs):
        name, wanted = builder.use(value), "y" if len(outputs) == 1 else f"y{i}"
        if name not in made or name in names:  # the input, a weight, or the same once more
            name = builder.emit("Identity", [name])
        _rename(builder.nodes, name, wanted)
        for known, at in builder.names.items():
            if at == name:
                builder.names[known] = wanted
        made = {name for node in builder.nodes for name in node.output}
        names.append(wanted)
    return names


def export(model: Module, x: Any, path: str | os.PathLike[str]) -> None:
    """Write the model as it computes model(x) to an ONNX file, in evaluation mode and for any batch size.

    x: an example, a float32 (or other floating) array or Tensor on the host, the batch first. Its other sizes
    become those of the file. The graph has one input, "x", and the outputs "y", or "y0", "y1", ...; opset 20
    (21 with group norm). Parameters and buffers keep their names. The model runs twice.

    ValueError: a model in training mode (call eval()), or one of more than 2 GiB. NotImplementedError: for an
    operation that ONNX has no equivalent of here, by its name, and where a result depends on x or on its
    batch size other than by operations of cnnext. TypeError: for an x or a model of another kind.
    """
    if not isinstance(model, Module):
        raise TypeError(f"export: model must be a cnnext.nn.Module, got {type(model).__name__}")
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(f"export: {training[0]} is in training mode; call model.eval() first")
    array = as_array(x)
    if is_on_device(array) or any(is_on_device(p.data) for p in model.parameters()):
        raise ValueError("export: model and x must be on the host; call .cpu() first")
    if not is_floating(array.dtype) or array.ndim == 0 or 0 in array.shape:
        raise TypeError(f"export: x must be a floating array with a batch, got {array.dtype} {array.shape}")
    traced = trace(model, np.array(array))
    builder = Builder(traced.x, len(traced.outputs))
    for call in traced.calls:
        builder.add(call)
    names = _name_outputs(builder, traced.outputs)
    size = sum(array.nbytes for array in builder.arrays.values())
    if size > _LIMIT:
        raise ValueError(f"export: the weights have {size} bytes; an ONNX file holds at most {_LIMIT}")
    graph = onnx.helper.make_graph(
        builder.nodes,
        type(model).__name__,
        [_value_info("x", traced.x.dtype, (-1, *traced.x.shape[1:]))],
        [
            _value_info(name, value.dtype, sizes)
            for name, value, sizes in zip(names, traced.outputs, traced.sizes, strict=True)
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in builder.arrays.items()],
    )
    proto = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", builder.opset)],
        ir_version=_IR_VERSIONS[builder.opset],
        producer_name="cnnext",
        producer_version=_C.version(),
    )
    Path(path).write_bytes(proto.SerializeToString())
