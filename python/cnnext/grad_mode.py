"""Whether operations are recorded: one switch a thread, as torch has it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    enabled = True


mode = _Mode()


def is_grad_enabled() -> bool:
    """Do operations of this thread record?"""
    return mode.enabled


class set_grad_enabled(contextlib.ContextDecorator):
    """Switch recording on or off in this thread, as context manager or decorator."""

    def __init__(self, mode: bool) -> None:
        self.mode, self._previous = bool(mode), []

    def __enter__(self) -> set_grad_enabled:
        self._previous.append(mode.enabled)
        mode.enabled = self.mode
        return self

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self._previous.pop()

    def _recreate_cm(self) -> set_grad_enabled:
        return set_grad_enabled(self.mode)  # a decorated function may run in several threads at once


class no_grad(set_grad_enabled):
    """Record nothing, as context manager or decorator (torch.no_grad)."""

    mode_of_class = False

    def __new__(cls, fn: Callable | None = None) -> Any:
        self = object.__new__(cls)
        set_grad_enabled.__init__(self, cls.mode_of_class)
        return self if fn is None else self(fn)  # also as `@no_grad` without brackets

    def __init__(self, fn: Callable | None = None) -> None:
        pass


class enable_grad(no_grad):
    """Record again inside a no_grad block (torch.enable_grad)."""

    mode_of_class = True
