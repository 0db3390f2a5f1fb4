"""Ctrl-C and SIGTERM between two steps, so that what is saved then is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Interrupted", "Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; `signal` is its number. together: in all its processes."""

    def __init__(self, message: str = "", signal: int = signal.SIGINT, together: bool = False) -> None:
        super().__init__(*([message] if message else []))
        self.signal, self.together = signal, together


class Interrupts:
    """While it is entered, the first signal waits for check() and the second raises at once.

    Handlers that are not Python's own are left alone, and so are threads other than the main one.
    together: a run in several processes, where check() looks at what they have told each other alone.
    """

    def __init__(self, together: bool = False) -> None:
        self._together = together
        self._caught: int | None = None
        self._agreed: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._caught = self._agreed = None
        if threading.current_thread() is threading.main_thread():
            for number, default in zip(_SIGNALS, (signal.default_int_handler, signal.SIG_DFL), strict=True):
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

    def caught(self) -> tuple[bool, bool]:
        """Has SIGINT come here, has SIGTERM?"""
        return self._caught == signal.SIGINT, self._caught == signal.SIGTERM

    def agree(self, counts: Sequence[float]) -> None:
        """counts: of the processes to which each of the two has come."""
        signals = [number for number, count in zip(_SIGNALS, counts, strict=True) if count]
        self._agreed = signals[-1] if signals else None

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        number = self._agreed if self._together else self._caught
        if number is not None:
            raise Interrupted(signal=number, together=self._together)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal need not wait, unless others do: nothing changes there that is saved."""
        self.check()
        self._at_once = not self._together
        try:
            yield
        finally:
            self._at_once = False
