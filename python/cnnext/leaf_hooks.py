"""Hooks of leaves, called within backward() when the gradient of one is complete."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from .handles import RemovableHandle

__all__ = ["add", "at_end", "begin", "call_all", "finish", "watched"]


class _Hooks:
    """Those of one leaf."""

    def __init__(self) -> None:
        self.after: dict[int, Callable[[Any], None]] = {}


# By the leaf's id: a tensor's == is elementwise, which a WeakKeyDictionary would call.
_hooks: dict[int, tuple[weakref.ref, _Hooks]] = {}


class _Local(threading.local):
    def __init__(self) -> None:
        # One list for each backward() that runs: a hook may call backward() itself.
        self.at_end: list[list[Callable[[bool], None]]] = []


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


def begin() -> None:
    """A backward() begins in this thread; finish() is its end."""
    _local.at_end.append([])


def at_end(callback: Callable[[bool], None]) -> None:
    """Within a hook: callback(whether it ended well) once this backward() has ended."""
    if not _local.at_end:
        raise RuntimeError("at_end: no backward() runs in this thread")
    _local.at_end[-1].append(callback)


def finish(well: bool) -> None:
    """Call what waits for the end of this backward(), once; where it failed its own error is told alone."""
    try:
        call_all(_local.at_end.pop(), well)
    except Exception:
        if well:
            raise


def call_all(callbacks: Iterable[Callable[[Any], None]], argument: Any) -> None:
    """Each of them, though one fails; then the first one's error."""
    first: BaseException | None = None
    for callback in callbacks:
        try:
            callback(argument)
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first
