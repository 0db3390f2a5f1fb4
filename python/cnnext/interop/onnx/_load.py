"""Reading an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx

from ...nn import Row
from . import _layers, _ops, _windows  # noqa: F401 - they fill the table
from ._graph import Graph, Step
from ._node import BUILDERS, Node, Source
from ._patterns import PARTS, simplify


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _read_external(path: str, proto: Any) -> None:
    """Values that lie in files of their own: in the model's folder, or they are refused."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        file = os.path.realpath(os.path.join(folder, location))
        if not location or os.path.isabs(location) or os.path.commonpath([folder, file]) != folder:
            raise ValueError(
                f"{path}: tensor {tensor.name!r} has its data in {location!r}, outside of the model's "
                "folder; that is refused"
            )
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, folder)
        except Exception as error:
            raise ValueError(
                f"{path}: the data of tensor {tensor.name!r} in {location!r}: {error}"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_operators(path: str, graph: Any, others: Collection[str] = ()) -> None:
    known = {"Constant", *BUILDERS, *others}
    for number, node in enumerate(graph.node):
        if node.domain not in ("", "ai.onnx") or node.op_type not in known:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            at = node.name or f"{node.op_type}_{number}"
            raise NotImplementedError(f"{path}: operator {name} (node {at!r}) is not supported")


def _check_names(path: str, graph: Any) -> None:
    """Names become levels of modules, each of which is a call deeper wherever modules are walked through."""
    sparse = [tensor.values.name for tensor in graph.sparse_initializer]
    if sparse:
        raise NotImplementedError(f"{path}: sparse initializer {sparse[0][:_LENGTH]!r} is not supported")
    for number, node in enumerate(graph.node):
        for name in (node.name, node.op_type, node.domain, *node.input, *node.output):
            if isinstance(name, str) and (len(name) > _LENGTH or name.count(".") >= _LEVELS):
                at = (node.name or f"{node.op_type}_{number}")[:_LENGTH]
                raise ValueError(
                    f"{path}: node {at!r}: a name has {len(name)} characters and {name.count('.')} dots; the "
                    f"rule is at most {_LENGTH}, and fewer than {_LEVELS} dots"
                )


_LENGTH, _LEVELS = 1000, 64


def _read(path: str) -> Any:
    with open(path, "rb") as file:
        data = file.read()
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError, of more than one place
        raise ValueError(f"{path} is not a whole ONNX file: {error}") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise ValueError(f"{path} is not a whole ONNX file: it has no graph or no opset")
    _check_names(path, proto.graph)
    _check_operators(path, proto.graph, PARTS)
    _read_external(path, proto)
    try:
        onnx.checker.check_model(proto)
        proto = onnx.shape_inference.infer_shapes(proto)
    except Exception as error:
        raise ValueError(f"{path} is not a valid ONNX model: {error}") from error
    try:
        simplify(proto.graph)
    except Exception as error:  # a constant's damaged tensor
        raise ValueError(f"{path} is not a valid ONNX model: {error}") from error
    _check_operators(path, proto.graph)
    return proto


def _constant(source: Source, node: Node) -> np.ndarray:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.attribute(name)
        if value is not None:
            kind = np.float32 if "float" in name else np.int64
            return source.array(value) if name == "value" else np.asarray(value, kind)
    raise node.unsupported("a constant of this kind")


def _operand(graph: Graph, source: Source, node: Node, i: int, placed: dict[str, Any]) -> Any:
    """What a step is given for input i: a name, or a parameter or buffer of the graph."""
    name = node.inputs[i]
    array = source.arrays.get(name)
    if array is None:
        return name
    if name not in placed:
        if name in source.initializers and array.dtype.kind == "f":
            parameter = node.parameter(i, name)
            assert parameter is not None
            placed[name] = graph.place_parameter(name, parameter)
        else:
            placed[name] = graph.place_buffer(name, array)
    return placed[name]


def _build(source: Source, proto: Any) -> Graph:
    graph, steps, placed = Graph(), [], {}
    for number, node_proto in enumerate(proto.graph.node):
        node = Node(source, node_proto, number)
        if node.outputs[0] in source.done:
            continue
        try:
            if node.op == "Constant":
                source.arrays[node.outputs[0]] = _constant(source, node)
                continue
            if node.op == "Transpose" and source.is_of_dense_layers(node_proto):
                source.transposed[node.outputs[0]] = node.inputs[0]
                continue
            made = BUILDERS[node.op](node)
            layer, inputs = made if isinstance(made, tuple) else (made, (0,))
            node.finish(2 if node.op == "MaxPool" else 1)
        except NotImplementedError:
            raise
        except Exception as error:  # of a layer's constructor, or of what a damaged file holds
            if str(error).startswith(source.path):
                raise
            raise ValueError(f"{source.path}: node {node.name!r} ({node.op}): {error}") from error
        graph.place_module(node.path(next(layer.parameters(), None) is not None), layer)
        operands = tuple(_operand(graph, source, node, i, placed) for i in inputs)
        steps.append(Step((layer,), operands, tuple(node.outputs), Row()))
    constants = {}
    for name in source.outputs:
        if name in source.arrays:
            constants[name] = placed.get(name) or graph.place_buffer(name, source.arrays[name])
    inputs = [i.name for i in proto.graph.input if i.name not in source.initializers]
    graph.connect(inputs, source.outputs, steps, constants)
    return graph


def load(path: str | os.PathLike[str]) -> Graph:
    """The model of an ONNX file as a Module, in evaluation mode; it takes the graph's inputs in their order.

    Its floating initialisers are parameters, by their names where nothing stands in the way: it trains. Any
    batch size is taken where the graph itself has none in a constant shape. docs/onnx.md lists the operators.

    NotImplementedError: an operator or attribute that is not supported, with the node's name. ValueError: a
    damaged file, an inconsistent graph, or data outside of the model's folder. FileNotFoundError: no file.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file: {path}")
    proto = _read(path)
    graph = _build(Source(path, proto), proto)
    graph.eval()
    return graph
