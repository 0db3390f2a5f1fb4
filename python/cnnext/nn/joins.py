"""Layers of a module with a forward of its own that fuse() joined: the first computes all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .module import Module


class Join:
    """Layers that run as the steps of a plan, for as long as each is where it was, with the forward that it
    was given here: the first computes them all, the others hand on what they are given. While one of them has
    hooks each computes itself. Where one is replaced or has another forward, all run as they did before.

    Copies and pickles of a layer hold nothing of it (Module.__getstate__).
    """

    def __init__(self, model: Module, names: list[str], steps: Callable[[list[Module]], list[Any]]) -> None:
        self._steps = steps
        self._places: list[tuple[Module, str, Module, Any]] = []
        for i, name in enumerate(names):
            parent, _, own = name.rpartition(".")
            layer = model.get_submodule(name)
            forward = _Link(self, layer, first=i == 0)
            self._places.append((model.get_submodule(parent), own, layer, forward))
        self.layers = [layer for _, _, layer, _ in self._places]
        for *_, layer, forward in self._places:
            vars(layer)["forward"] = forward
        self.plan()
        self._whole = True

    def plan(self) -> None:
        """Note in the layers what runs together."""
        self._steps(self.layers)

    def holds(self) -> bool:
        """Is each layer where it was? If not, they are undone."""
        for parent, name, layer, forward in self._places:
            if parent._modules.get(name) is not layer or vars(layer).get("forward") is not forward:
                self.undo()
                return False
        return True

    def undo(self) -> None:
        """Let every layer compute itself again."""
        for *_, layer, forward in self._places:
            vars(layer).pop("_fused", None)
            if vars(layer).get("forward") is forward:
                del vars(layer)["forward"]

    def begin(self) -> bool:
        """At the first layer: do all run as one? None does while a hook would see or change what passes."""
        self._whole = not any(layer._hooks for layer in self.layers)
        if not self._whole:
            self.plan()
            for layer in self.layers:
                vars(layer).pop("_fused", None)
        return self._whole

    @property
    def is_whole(self) -> bool:
        """Did all run as one when the first layer was called last?"""
        return self._whole

    def run(self, x: Any) -> Any:
        """All of them."""
        for step in self._steps(self.layers):
            x = step(x)
        return x


class _Link:
    """The forward of a joined layer."""

    stays_here = True

    def __init__(self, join: Join, layer: Module, first: bool) -> None:
        self.join, self._layer, self._first = join, layer, first

    def __call__(self, x: Any) -> Any:
        if not self.join.holds():
            return self._layer.forward(x)
        if not (self.join.begin() if self._first else self.join.is_whole):
            return type(self._layer).forward(self._layer, x)
        return self.join.run(x) if self._first else x


def is_joined(layer: Module) -> bool:
    """Has the layer a forward of fuse()'s?"""
    return isinstance(vars(layer).get("forward"), _Link)


def joins_of(model: Module) -> list[Join]:
    """The joins of its layers."""
    links = [vars(layer)["forward"] for layer in model.modules() if is_joined(layer)]
    return list({id(link.join): link.join for link in links}.values())
