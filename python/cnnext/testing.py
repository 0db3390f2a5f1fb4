"""Helpers for tests: forcing a backend, and asking what ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import _C


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Runs this thread's calls on "ref" (plain loops), "cpu" (ref where it has none), "cuda" or "auto"."""
    previous = _C.get_backend()
    _C.set_backend(name)
    try:
        yield
    finally:
        _C.set_backend(previous)


def last_kernel() -> str:
    """What ran this thread's last call: "cpu/avx512/conv2d_k_6x64", "ref/add"."""
    return _C.last_kernel()
