"""Ctrl-C and SIGTERM between two steps, so that what is saved then is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; `signal` is its number."""

    def __init__(self, message: str = "", signal: int = signal.SIGINT) -> None:
        super().__init__(*([message] if message else []))
        self.signal = signal


class Interrupts:
    """While it is entered, the first signal waits for check() and the second raises at once.

    Handlers that are not Python's own are left alone, and so are threads other than the main one.
    """

    def __init__(self) -> None:
        self._caught: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._caught = None
        if threading.current_thread() is threading.main_thread():
            defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            for number, default in defaults.items():
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: Any) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: Any) -> None:
        if self._at_once or self._caught is not None:
            raise Interrupted(signal=number)
        self._caught = number

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._caught is not None:
            raise Interrupted(signal=self._caught)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal need not wait: nothing changes there that is saved."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
