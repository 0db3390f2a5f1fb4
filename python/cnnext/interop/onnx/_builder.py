"""The ONNX graph that an export writes, and the table of rules that make its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from ._trace import Call, Value

OPSET = 20

#: By the operation's name: rule(builder, *args, **params) -> the names of its outputs. `shapes` and `dtypes`
#: of the arguments are the builder's while it runs.
RULES: dict[str, Callable[..., Any]] = {}


def rule(*names: str) -> Callable:
    """Register what an operation of that name becomes."""

    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Builder:
    """The nodes of a graph, and the arrays that they use."""

    def __init__(self, x: Value, outputs: int) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[Value, str] = {x: "x"}
        self.opset = OPSET
        self.shapes: list[tuple[int, ...]] = []
        self.outputs: tuple[Value, ...] = ()
        self._indices: set[str] = set()
        self._taken = {"x", "y", *(f"y{i}" for i in range(outputs))}  # the graph's own

    def use(self, value: Value | None) -> str:
        """A value's name in the graph; "" where there is none."""
        if value is None:
            return ""
        if value not in self.names:
            assert value.array is not None
            if value.is_state:
                self.names[value] = name = self._free(value.name)
                self.arrays[name] = value.array
            else:
                self.names[value] = self.constant(value.array, value.dtype)
        if self.names[value] in self._indices:
            raise NotImplementedError("export: max_pool2d's indices are supported in max_unpool2d alone")
        return self.names[value]

    def indices(self, value: Value | None) -> str:
        """The same of a max-pool's indices, which are ONNX's in the graph."""
        if value is None or self.names.get(value) not in self._indices:
            raise NotImplementedError("export: max_unpool2d: indices must be those of a max_pool2d")
        return self.names[value]

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """What is no state of the model: sizes, bounds. A node, so that no reader takes it for a weight."""
        tensor = onnx.numpy_helper.from_array(np.asarray(values, dtype))
        return self.emit("Constant", [], value=tensor)

    def emit(self, op: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or a tuple of them."""
        number = len(self.nodes)
        names = [self._free(f"{op.lower()}_{number}" + (f"_{i}" if i else "")) for i in range(count)]
        inputs = list(inputs)
        while inputs and not inputs[-1]:  # left out at the end
            inputs.pop()
        self.nodes.append(onnx.helper.make_node(op, inputs, names, f"{op}_{number}", **attributes))
        return names[0] if count == 1 else tuple(names)

    def add(self, call: Call) -> None:
        """The nodes of a call."""
        if call.name not in RULES:
            raise NotImplementedError(f"export: the operation {call.name} is not supported")
        self.shapes = [() if a is None else a.shape for a in call.args]
        self.outputs = call.outputs
        given: list[Any] = [*call.args]
        if call.name != "max_unpool2d":
            given = [self.use(a) for a in given]
        try:
            made = RULES[call.name](self, *given, **call.params)
        except NotImplementedError as error:
            raise NotImplementedError(f"export: {call.name}: {error}") from None
        for value, name in zip(call.outputs, made if isinstance(made, tuple) else (made,), strict=False):
            self.names[value] = name

    def dtype(self) -> np.dtype:
        """Of the result."""
        return self.outputs[0].dtype

    def note_indices(self, name: str) -> None:
        """That output holds a max-pool's indices."""
        self._indices.add(name)
