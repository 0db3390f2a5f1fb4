"""On which CUDA stream calls are queued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _C


def _handle(stream: Any) -> int:
    """The cudaStream_t of a stream: an int, torch's, CuPy's, or anything with __cuda_stream__."""
    if isinstance(stream, int) and not isinstance(stream, bool):
        handle = stream
    elif hasattr(stream, "cuda_stream"):
        handle = stream.cuda_stream
    elif hasattr(stream, "ptr"):
        handle = stream.ptr
    elif hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        handle = (protocol() if callable(protocol) else protocol)[1]
    else:
        raise TypeError(
            f"stream must be a cudaStream_t as an int, or a stream of torch or CuPy; got {stream!r}"
        )
    if handle < 0:
        raise ValueError(f"stream is {handle}; a cudaStream_t is at least 0")
    return int(handle)


@contextmanager
def cuda_stream(stream: Any) -> Iterator[None]:
    """Within it this thread's calls on CUDA arrays are queued on `stream`: with cx.cuda_stream(s): ...

    stream: a cudaStream_t as an int (0: the legacy default stream), a stream of torch or CuPy, or an object
        with __cuda_stream__; of the arrays' device. It must outlive the results.
    The arrays' producers are waited for, on the device; who uses the results on another stream orders that.
    Without it calls run on torch's or CuPy's current stream, for other arrays on the legacy default stream.
    """
    before = _C.get_cuda_stream()
    _C.set_cuda_stream(_handle(stream))
    try:
        yield
    finally:
        _C.set_cuda_stream(before)
