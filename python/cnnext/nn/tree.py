"""A module as a tree: walking over what it holds, by dotted names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module, Parameter


class Tree:
    """What a Module says of itself and of the modules below it."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct children and their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names, each once (or wherever it stands).

        memo: modules to leave out; those that were found are added.
        """
        memo = set() if memo is None else memo
        yield from self._all_paths(prefix, memo if remove_duplicate else None)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = (
            self._all_paths(prefix, set() if remove_duplicate else None) if recurse else [(prefix, self)]
        )
        for path, module in modules:
            for name, value in getattr(module, registry).items():
                if value is not None and id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, each once (or wherever it stands)."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, each once (or wherever it stands)."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of that dotted name."""
        module: Any = self
        for name in target.split(".") if target else []:
            if name not in module._modules:
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r} (of {target!r})")
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of that dotted name."""
        return self._get("_parameters", "parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of that dotted name."""
        return self._get("_buffers", "buffer", target)

    def _get(self, registry: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if getattr(module, registry).get(name) is None:
            raise AttributeError(f"{type(module).__name__} has no {kind} {name!r} (of {target!r})")
        return getattr(module, registry)[name]

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call fn on every module, children first; returns self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _all_paths(self, path: str, seen: set[Module] | None = None) -> Iterator[tuple[str, Module]]:
        """This module and all below it: one that is shared once with `seen`, else at each of its places."""
        if seen is not None:
            if self in seen:
                return
            seen.add(self)
        yield path, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._all_paths(f"{path}.{name}" if path else name, seen)
