"""What exporters write out in several nodes though cnnext.nn has it as one: SiLU, and GELU by Erf."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx


class _Nodes:
    """Who makes a value, who uses it, and which are constant numbers."""

    def __init__(self, graph: Any) -> None:
        self.made = {name: node for node in graph.node for name in node.output if name}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.outputs = {output.name for output in graph.output}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        for info in (*graph.input, *graph.value_info, *graph.output):
            if info.type.tensor_type.HasField("shape"):
                self._ranks[info.name] = len(info.type.tensor_type.shape.dim)

    def number(self, name: str, beside: str) -> np.generic | None:
        """The value of a constant of one element, which gives the value `beside` it no further axes."""
        maker = self.made.get(name)
        tensor = self._tensors.get(name)
        if maker is not None and maker.op_type == "Constant":
            tensor = next((a.t for a in maker.attribute if a.name == "value"), None)
        if tensor is None or math.prod(tensor.dims) != 1 or len(tensor.dims) > self._ranks.get(beside, 0):
            return None
        return np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(-1)[0]

    def user(self, name: str, op: str) -> Any:
        """The only node that uses a value, if it is of this kind."""
        users = self.users.get(name, [])
        fits = len(users) == 1 and users[0].op_type == op and name not in self.outputs
        return users[0] if fits else None

    def other(self, node: Any, name: str) -> str:
        """The other input of a node of two."""
        return node.input[1] if node.input[0] == name else node.input[0]

    def scaled_by(self, name: str, factor: float) -> str | None:
        """What a value is, but for a constant factor that is this one as far as its dtype tells."""
        maker = self.made.get(name)
        if maker is None or maker.op_type not in ("Mul", "Div"):
            return None
        for at in (1, 0) if maker.op_type == "Mul" else (1,):
            x = maker.input[1 - at]
            number = self.number(maker.input[at], x)
            if number:
                by = float(number) if maker.op_type == "Mul" else 1 / float(number)
                return x if math.isclose(by, factor, rel_tol=_tolerance(number)) else None
        return None


def _tolerance(number: np.generic) -> float:
    """Half a unit in the last place, or that of 1.41421, which some write for the square root of 2."""
    digits = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
    return digits.get(number.dtype.name, 3e-6)


def _gelu(nodes: _Nodes, erf: Any) -> Any:
    """(x, the result) where it is erf(x / sqrt(2)) of x * (1 + erf) * 0.5, in either order."""
    x = nodes.scaled_by(erf.input[0], math.sqrt(0.5))
    add = nodes.user(erf.output[0], "Add")
    if x is None or add is None or nodes.number(nodes.other(add, erf.output[0]), x) != 1.0:
        return None
    at, missing = add.output[0], {"x", "half"}
    while missing:
        product = nodes.user(at, "Mul")
        if product is None:
            return None
        other = nodes.other(product, at)
        if other == x:
            found = {"x"}
        elif nodes.number(other, x) == 0.5:
            found = {"half"}
        elif nodes.scaled_by(other, 0.5) == x:
            found = {"x", "half"}
        else:
            return None
        if not found <= missing:  # a factor that comes twice
            return None
        missing -= found
        at = product.output[0]
    return x, at


def _silu(nodes: _Nodes, sigmoid: Any) -> Any:
    """(x, the result) where it is x * sigmoid(x)."""
    x, y = sigmoid.input[0], sigmoid.output[0]
    product = nodes.user(y, "Mul")
    return (x, product.output[0]) if product is not None and nodes.other(product, y) == x else None


#: Operators that are known as parts of a pattern alone.
PARTS = ("Erf",)
_PATTERNS = {"Erf": ("Gelu", _gelu), "Sigmoid": ("Silu", _silu)}


def simplify(graph: Any) -> None:
    """Put one node in the place of each pattern. Silu is none of ONNX's operators, but of ours."""
    nodes = _Nodes(graph)
    for node in list(graph.node):
        if node.op_type not in _PATTERNS:
            continue
        op, find = _PATTERNS[node.op_type]
        found = find(nodes, node)
        if found is None:
            continue
        x, y = found
        last = nodes.made[y]
        last.CopyFrom(onnx.helper.make_node(op, [x], [y], last.name))
    _drop_unused(graph)


def _drop_unused(graph: Any) -> None:
    """Take away the nodes that nobody uses now."""
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    rest = onnx.GraphProto()
    rest.node.extend(reversed(kept))
    graph.ClearField("node")
    graph.node.extend(rest.node)
