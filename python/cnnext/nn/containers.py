"""Modules that hold modules."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from .fuse import Plan
from .module import Module


def _position(index: Any, length: int) -> int:
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for {length} modules")
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
    """A list of modules that are registered; it computes nothing itself."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)
