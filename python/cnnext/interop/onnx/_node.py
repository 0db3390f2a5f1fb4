"""A node of an ONNX graph as the operators' builders read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ...nn import Module, Parameter


class Source:
    """The graph that a file holds: its constants, its ranks, and who uses what."""

    def __init__(self, path: str, proto: Any) -> None:
        self.path = path
        self.opset = max([o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")], default=1)
        graph = proto.graph
        self.arrays: dict[str, np.ndarray] = {}
        for tensor in graph.initializer:
            self.arrays[tensor.name] = self.array(tensor)
        self.initializers = set(self.arrays)
        self.parameters: dict[str, Parameter] = {}
        self.transposed: dict[str, str] = {}  # matrices, by what they are transposed of
        self.uses: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.uses.setdefault(name, []).append(node)
        self.done: set[str] = set()  # outputs of nodes that another one does as well
        self.outputs = [output.name for output in graph.output]
        self.ranks: dict[str, int] = {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            if info.type.tensor_type.HasField("shape"):
                self.ranks[info.name] = len(info.type.tensor_type.shape.dim)

    def array(self, tensor: Any) -> np.ndarray:
        """A copy of a tensor's values."""
        try:
            return np.array(onnx.numpy_helper.to_array(tensor))
        except Exception as error:
            raise ValueError(f"{self.path}: tensor {tensor.name!r} is damaged: {error}") from error

    def is_of_dense_layers(self, transpose: Any) -> bool:
        """Does it make the matrix of MatMuls, of an initialiser, as export writes dense layers?"""
        name, matrix = transpose.output[0], transpose.input[0]
        orders = [list(attribute.ints) for attribute in transpose.attribute if attribute.name == "perm"]
        users = self.uses.get(name, [])
        return (
            matrix in self.initializers
            and self.arrays[matrix].ndim == 2
            and orders in ([], [[1, 0]])
            and name not in self.outputs
            and bool(users)
            and all(user.op_type == "MatMul" and user.input[0] != name for user in users)
        )

    def only_user(self, name: str) -> Any:
        """The one node that uses a value, unless it is a result of the graph."""
        users = self.uses.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs else None


class Node:
    """One node. What a builder does not ask for is not supported."""

    def __init__(self, source: Source, proto: Any, number: int) -> None:
        self.source, self.op = source, proto.op_type
        name = proto.name if isinstance(proto.name, str) else ""  # bytes where it is no text
        self.name = name or f"{proto.op_type}_{number}"
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        while len(self.outputs) > 1 and not self.outputs[-1]:
            self.outputs.pop()
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        self._read: set[str] = set()

    @property
    def opset(self) -> int:
        """The version of ONNX's operators."""
        return self.source.opset

    def unsupported(self, what: str) -> NotImplementedError:
        """The error for something valid that cnnext has not."""
        return NotImplementedError(
            f"{self.source.path}: operator {self.op} (node {self.name!r}): {what} is not supported"
        )

    # -- attributes --

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute: text as str, a number as it was written (1e-5, not the nearest float32)."""
        self._read.add(name)
        value = self._attributes.get(name, default)
        if isinstance(value, float):
            return float(str(np.float32(value)))
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def only(self, name: str, default: Any, *allowed: Any) -> Any:
        """An attribute that must have its default or one of the allowed values."""
        value = self.attribute(name, default)
        if value not in (default, *allowed):
            raise self.unsupported(f"attribute {name}={_shown(value)}")
        return value

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing here."""
        self._read.update(names)

    def finish(self, outputs: int = 1) -> None:
        """What nobody asked for must not be there."""
        unread = [name for name in self._attributes if name not in self._read]
        if unread:
            raise self.unsupported(f"attribute {unread[0]}={_shown(self._attributes[unread[0]])}")
        if any(name in self.source.uses or name in self.source.outputs for name in self.outputs[outputs:]):
            raise self.unsupported(f"output {outputs}")
        del self.outputs[outputs:]

    # -- inputs --

    def has(self, i: int) -> bool:
        """Is input i given?"""
        return i < len(self.inputs) and bool(self.inputs[i])

    def constant(self, i: int, what: str) -> np.ndarray | None:
        """Input i, which must be a constant; None where it is not given."""
        if not self.has(i):
            return None
        value = self.source.arrays.get(self.inputs[i])
        if value is None:
            raise self.unsupported(f"input {what} that is not constant")
        return value

    def ints(self, i: int, name: str, since: int) -> list[int] | None:
        """Sizes or axes: an attribute of old, input i since that opset. None where neither is given."""
        if self.opset < since:
            value = self.attribute(name)
            return None if value is None else [int(v) for v in value]
        array = self.constant(i, name)
        return None if array is None else [int(v) for v in array.reshape(-1)]

    def parameter(self, i: int, what: str) -> Parameter | None:
        """Input i as a trainable parameter, the same one wherever the graph uses it."""
        array = self.constant(i, what)
        if array is None:
            return None
        name = self.inputs[i]
        if name not in self.source.parameters:
            self.source.parameters[name] = Parameter(array)
        return self.source.parameters[name]

    def weight(self, i: int, what: str) -> Parameter:
        """A parameter that must be there."""
        parameter = self.parameter(i, what)
        if parameter is None:
            raise ValueError(f"input {what} is missing")
        return parameter

    def rank(self, i: int) -> int:
        """How many axes input i has."""
        name = self.inputs[i]
        if name in self.source.arrays:
            return self.source.arrays[name].ndim
        if name not in self.source.ranks:
            raise ValueError(
                f"{self.source.path}: the number of axes of {name!r}, input of node {self.name!r}, is unknown"
            )
        return self.source.ranks[name]

    def path(self, has_weight: bool) -> str:
        """Where a layer stands: what the initialiser of its weight is named after, or the node."""
        name = self.inputs[1] if has_weight and self.has(1) else ""
        stem, dot, last = name.rpartition(".")
        if dot and last == "weight" and name in self.source.initializers:
            return stem
        return self.name.strip("/").replace(".", "_").replace("/", "_") or self.op


def _shown(value: Any) -> str:
    """A value in a message; it may be a tensor or a whole graph."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def bare(cls: type[Module], *args: Any, **options: Any) -> Any:
    """A layer whose parameters are not drawn, but given afterwards: no random number is used up."""
    quiet = type(cls.__name__, (cls,), {"reset_parameters": lambda self: None})
    layer = quiet(*args, **options)
    layer.__class__ = cls
    return layer


def given(layer: Any, node: Node, weight: Any, bias: int = 2) -> Any:
    """A layer with the node's parameters."""
    layer.weight = weight
    if node.has(bias):
        layer.bias = node.parameter(bias, "bias")
    return layer


#: A builder makes a module of a node, which is called with the node's first input, or a module and the
#: numbers of the inputs that it is called with.
BUILDERS: dict[str, Callable[[Node], Any]] = {}


def builds(*names: str) -> Callable:
    """Register a builder for operators of these names."""

    def register(function: Callable) -> Callable:
        BUILDERS.update(dict.fromkeys(names, function))
        return function

    return register
