"""What every test run reports, and the state that every test starts from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import cnnext
import pytest
from cnnext import _C

# A shell starts what runs in its background with SIGINT ignored; tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def pytest_report_header() -> list[str]:
    """The instruction set, the threads, and which second oracles are there."""
    return [
        f"cnnext {_C.version()} from {cnnext.__path__[0]}",
        f"isa {_C.isa()} of {', '.join(_C.isa_available())}, {_C.get_num_threads()} threads",
        f"oracles: torch {_version('torch')}, onnx {_version('onnx')}",
    ]


@pytest.fixture(autouse=True)
def _restored_state() -> Iterator[None]:
    """Threads, backend and flush mode outlive a test; what one changes may not reach the next."""
    threads, backend, flush = _C.get_num_threads(), _C.get_backend(), _C.get_flush_denormal()
    yield
    if _C.get_num_threads() != threads:
        _C.set_num_threads(threads)
    _C.set_backend(backend)
    _C.set_flush_denormal(flush)
