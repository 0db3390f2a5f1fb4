"""Hooks of leaves, called within backward() when the gradient of one is complete."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from .handles import RemovableHandle

__all__ = ["add", "at_end", "finish", "watched"]


class _Hooks:
    """Those of one leaf."""

    def __init__(self) -> None:
        self.after: dict[int, Callable[[Any], None]] = {}


# By the leaf's id: a tensor's == is elementwise, which a WeakKeyDictionary would call.
_hooks: dict[int, tuple[weakref.ref, _Hooks]] = {}


class _Local(threading.local):
    def __init__(self) -> None:
        self.at_end: list[Callable[[bool], None]] = []


_local = _Local()


def add(leaf: Any, hook: Callable[[Any], None]) -> RemovableHandle:
    """hook(leaf) after each backward() that added to leaf.grad."""
    if not callable(hook):
        raise TypeError(f"hook must be callable, got {type(hook).__name__}")
    key = id(leaf)
    if key not in _hooks:
        _hooks[key] = weakref.ref(leaf, lambda _, all_=_hooks: all_.pop(key, None)), _Hooks()
    hooks = _hooks[key][1]
    handle = RemovableHandle(hooks, "after")
    hooks.after[handle.id] = hook
    return handle


def watched() -> dict[Any, _Hooks]:
    """The leaves that have hooks now."""
    if not _hooks:
        return {}
    alive = [(leaf(), hooks) for leaf, hooks in list(_hooks.values()) if hooks.after]
    return {leaf: hooks for leaf, hooks in alive if leaf is not None}


def at_end(callback: Callable[[bool], None]) -> None:
    """Within a hook: callback(whether it ended well) once the backward() of this thread has ended."""
    _local.at_end.append(callback)


def finish(well: bool) -> None:
    """Call what waits for the end, once."""
    waiting, _local.at_end = _local.at_end, []
    for callback in waiting:
        callback(well)
