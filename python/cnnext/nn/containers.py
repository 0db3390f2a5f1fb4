"""Modules that hold modules."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..tape import Variable
from .fuse import Plan
from .module import Module, Parameter


def _position(index: Any, length: int, what: str = "modules") -> int:
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for {length} {what}")
    return index % length


class _Row(Module):
    """Children named "0", "1", ..."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._of(list(self._modules.items())[index])
        return list(self._modules.values())[_position(index, len(self))]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(list(self._modules)[_position(index, len(self))], module)

    def __delitem__(self, index: Any) -> None:
        kept = list(self)
        del kept[index]
        self._renumber(kept)

    def _of(self, items: list[tuple[str, Module]]) -> Any:
        return type(self)([module for _, module in items])

    def _renumber(self, modules: Iterable[Module]) -> None:
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def pop(self, index: Any) -> Any:
        """Take a module out, or those of a slice, and return it."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules: Iterable[Module]) -> Any:
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> Any:
        if not isinstance(modules, Iterable):
            return NotImplemented
        return self._of(list(self._modules.items())).extend(modules)

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`; returns self."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Row):
    """Modules one after the other: Sequential(a, b, ...) or Sequential({"name": a, ...}).

    Runs of cnnext's own layers that can be computed as one operation are (nn/fuse.py), with the same results
    to rounding; each layer of a run then has the run's name as its `_fused`. A layer that is a subclass, has
    a forward or hooks of its own, or stands there twice, is always called itself.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self._plan = Plan()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], dict) else enumerate(args)
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: entry {name} is {type(module).__name__}, not a Module")
            self.add_module(str(name), module)

    def _of(self, items: list[tuple[str, Module]]) -> Sequential:
        return Sequential(dict(items))

    def forward(self, x: Any) -> Any:
        """x through all modules."""
        for step in self._plan.steps(self._modules.values()):
            x = step(x)
        return x


class ModuleList(_Row):
    """A list of modules that are registered; it computes nothing itself (torch.nn.ModuleList)."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def _child_reprs(self) -> list[tuple[str, str]]:
        """As torch prints it: equal neighbours as one."""
        found: list[tuple[str, str]] = []
        at = 0
        for text, same in itertools.groupby(map(repr, self)):
            count = len(list(same))
            found.append((str(at), text) if count == 1 else (f"{at}-{at + count - 1}", f"{count} x {text}"))
            at += count
        return found


class ModuleDict(Module):
    """A dict of modules that are registered, in order; it computes nothing itself (torch.nn.ModuleDict)."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update({} if modules is None else modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """Names and modules."""
        return self._modules.items()

    def clear(self) -> None:
        """Take all out."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        return self._modules.pop(key)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules by name, from a dict or from pairs."""
        for key, module in modules.items() if hasattr(modules, "items") else modules:
            self[key] = module


class ParameterList(Module):
    """A list of registered Parameters, made of tensors or arrays where need be (torch.nn.ParameterList)."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if values is None else values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[str(_position(index, len(self), "parameters"))]

    def __setitem__(self, index: int, value: Any) -> None:
        self._put(str(_position(index, len(self), "parameters")), value)

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def _put(self, name: str, value: Any) -> None:
        self.register_parameter(name, value if isinstance(value, Parameter) else Parameter(value))

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; returns self."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end; returns self."""
        if isinstance(values, Variable) or not isinstance(values, Iterable):
            raise TypeError(f"ParameterList takes an iterable of parameters, got {type(values).__name__}")
        for value in values:
            self.append(value)
        return self

    def extra_repr(self) -> str:
        """A line for each."""
        lines = []
        for i, p in enumerate(self):
            size = "x".join(map(str, p.shape))
            lines.append(f"  ({i}): Parameter containing: [{p.dtype} of size {size}]")
        return "\n".join(lines)
