"""The module that an ONNX graph becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...functional._common import as_tensor
from ...nn import Module, Parameter, Row

Holder = tuple[Module, str]  # a module and which of its parameters or buffers


class Op(Module):
    """A node that is no layer of nn: a function of tensors."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__()
        self._name, self._function = name, function

    def forward(self, *args: Any) -> Any:
        """Whatever the operator takes."""
        return self._function(*args)

    def extra_repr(self) -> str:
        """The operator."""
        return self._name


class Part(Module):
    """A level of the names: it holds others and computes nothing."""


class Step(NamedTuple):
    """Modules that run one after the other, on what is known by name or is a constant of the graph."""

    layers: tuple[Module, ...]
    args: tuple[str | Holder, ...]
    outputs: tuple[str, ...]
    row: Row


class Graph(Module):
    """The nodes of an ONNX graph in order. Its parameters are the graph's initialisers, by their names.

    Layers that nothing but the next one uses run as nn.Sequential runs them, several as one operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._inputs: tuple[str, ...] = ()
        self._outputs: tuple[str, ...] = ()
        self._steps: list[Step] = []
        self._frees: list[tuple[str, ...]] = []
        self._constants: dict[str, Holder] = {}

    def _place(self, path: str, add: Callable[[Module, str], None]) -> Holder:
        """Add something under a dotted path, or the nearest one that is free."""
        *levels, name = [part for part in path.split(".") if part] or ["unnamed"]
        at: Module = self
        for level in levels:
            while level not in at._modules and hasattr(at, level):  # an attribute that is no child
                level += "_"
            if level not in at._modules:
                at.add_module(level, Part())
            at = at._modules[level]
            if not isinstance(at, Part):  # a layer, which has names of its own
                return self._place("_.".join([*levels, name]), add)
        while hasattr(at, name):
            name += "_"
        add(at, name)
        return at, name

    def place_module(self, path: str, module: Module) -> None:
        """Register a layer."""
        self._place(path, lambda at, name: at.add_module(name, module))

    def place_parameter(self, path: str, parameter: Parameter) -> Holder:
        """Register a parameter that no layer has."""
        return self._place(path, lambda at, name: at.register_parameter(name, parameter))

    def place_buffer(self, path: str, value: Any) -> Holder:
        """Register a constant, which is no state."""
        return self._place(path, lambda at, name: at.register_buffer(name, value, persistent=False))

    def connect(
        self, inputs: list[str], outputs: list[str], steps: list[Step], constants: dict[str, Holder]
    ) -> None:
        """What forward does. constants: outputs that no node makes."""
        self._inputs, self._outputs, self._constants = tuple(inputs), tuple(outputs), constants
        uses: dict[str, int] = {}
        for name in (*outputs, *(a for step in steps for a in step.args if isinstance(a, str))):
            uses[name] = uses.get(name, 0) + 1
        for step in steps:
            last = self._steps[-1] if self._steps else None
            if (
                last is not None
                and len(step.args) == 1
                and step.args == last.outputs
                and uses[last.outputs[0]] == 1
                and last.outputs[0] not in outputs
            ):
                self._steps[-1] = last._replace(layers=last.layers + step.layers, outputs=step.outputs)
            else:
                self._steps.append(step)
        seen = {*outputs}
        for step in reversed(self._steps):
            names = {a for a in (*step.args, *step.outputs) if isinstance(a, str)} - seen
            self._frees.insert(0, tuple(sorted(names)))
            seen |= names

    def forward(self, *inputs: Any) -> Any:
        """The graph's inputs in order; its output, or a tuple of them."""
        if len(inputs) != len(self._inputs):
            raise TypeError(f"the graph takes {len(self._inputs)} inputs {self._inputs}, got {len(inputs)}")
        values: dict[str, Any] = dict(zip(self._inputs, map(as_tensor, inputs), strict=True))
        for step, frees in zip(self._steps, self._frees, strict=True):
            args = [values[a] if isinstance(a, str) else getattr(*a) for a in step.args]
            if len(args) == 1:
                y = step.row(args[0], *step.layers)
            else:
                y, rest = step.layers[0](*args), step.layers[1:]
                y = step.row(y, *rest) if rest else y
            values.update(zip(step.outputs, y if isinstance(y, tuple) else (y,), strict=True))
            for name in frees:
                del values[name]
        results = [
            getattr(*self._constants[name]) if name in self._constants else values[name]
            for name in self._outputs
        ]
        return results[0] if len(results) == 1 else tuple(results)
